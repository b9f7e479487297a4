"""A base model with its adapter merged says what the base with the adapter beside it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.core.support import config, example, write_run
from training.core.errors import TrainingError
from training.core.merge import merge
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory, write_run_directory
from training.core.run.files import damaged_file
from training.core.stages.dpo import run_dpo


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> Path:
    run = write_run(
        tmp_path_factory.mktemp("parent") / "run", base=base_folder, examples=[example(n) for n in range(4)]
    )
    run_dpo(run, config=read_config(run.config))
    return run.adapter


def to_merge(path: Path, *, base: Path, adapter: Path | None) -> RunDirectory:
    settings = config(base, stage="score", parent_adapter=str(adapter) if adapter else None)
    write_run_directory(path, config=settings, examples=())
    return RunDirectory(path)


def test_merged_model_has_the_logits_of_base_and_adapter(
    tmp_path: Path, base_folder: Path, adapter: Path
) -> None:
    run = to_merge(tmp_path / "run", base=base_folder, adapter=adapter)
    merge(run)
    tokens = torch.tensor([[5, 6, 7, 8, 9]])
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    with torch.no_grad():
        plain = base(tokens).logits
        beside = PeftModel.from_pretrained(base, adapter)(tokens).logits
        merged = AutoModelForCausalLM.from_pretrained(run.model)(tokens).logits
    torch.testing.assert_close(merged, beside, atol=1e-4, rtol=1e-4)
    assert (merged - plain).abs().max() > 1e-2
    assert damaged_file(run.model) is None
    assert AutoTokenizer.from_pretrained(run.model).chat_template
    assert json.loads(run.result.read_text())["stage"] == "merge"


def test_a_directory_without_an_adapter_is_refused(tmp_path: Path, base_folder: Path) -> None:
    run = to_merge(tmp_path / "run", base=base_folder, adapter=None)
    with pytest.raises(TrainingError, match="parent_adapter is missing"):
        merge(run)


def test_the_command_leaves_its_cause_behind(tmp_path: Path, base_folder: Path) -> None:
    run = to_merge(tmp_path / "run", base=base_folder, adapter=tmp_path / "gone")
    command = [sys.executable, "-m", "training.core.merge", str(run.path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "has no adapter_config.json" in ended.stderr
    assert "has no adapter_config.json" in json.loads(run.error.read_text())["cause"]
    assert not run.result.exists()
