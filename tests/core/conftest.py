"""A float32 base model with livelier weights than a fresh one, and run directories on it."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.core.support import example, write_run
from tests.support.tiny_model import make_tiny_model
from training.core.run.directory import RunDirectory

# A tiny model has nothing for a second thread to do, and threads that wait for each other take the cores from
# the tests beside them.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two Llama layers with grouped keys, float32, byte tokens; its template ends turns with a newline."""
    folder = tmp_path_factory.mktemp("core") / "base"
    make_tiny_model(folder)
    config = LlamaConfig.from_pretrained(folder)
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 16
    config.initializer_range = 0.1
    config.dtype = "float32"
    torch.manual_seed(1)
    LlamaForCausalLM(config).float().save_pretrained(folder)
    return folder


@pytest.fixture
def run(tmp_path: Path, base_folder: Path) -> RunDirectory:
    """Six pairs of texts, two epochs of three steps, a checkpoint after every second step."""
    return write_run(tmp_path / "run", base=base_folder, examples=[example(number) for number in range(6)])
