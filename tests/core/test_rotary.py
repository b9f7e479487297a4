"""Positions whose frequencies follow a row's length: each sequence is as it is alone."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from tests.core.models import naive_logps
from tests.core.support import config
from training.core.lanes import Lanes
from training.core.logprobs.pairs import completions_token_logps
from training.core.logprobs.paths import logps_path
from training.core.model.loading import find_base, load_base
from training.core.run.directory import TokenIds

ORIGINAL = 32
LONGROPE: dict[str, Any] = {
    "rope_type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [8.0] * 8,
    "factor": 4.0,
    "rope_theta": 10000.0,
    "original_max_position_embeddings": ORIGINAL,
}
DYNAMIC: dict[str, Any] = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
# A long row comes first: what it leaves behind would be the frequencies of the next ones.
LENGTHS = (70, 40, 10, 50)


@pytest.fixture(params=["dynamic", "longrope"])
def folder(request: pytest.FixtureRequest, base_folder: Path, tmp_path: Path) -> Path:
    settings = LlamaConfig.from_pretrained(base_folder)
    settings.max_position_embeddings = ORIGINAL if request.param == "dynamic" else 4 * ORIGINAL
    settings.rope_parameters = DYNAMIC if request.param == "dynamic" else LONGROPE
    torch.manual_seed(1)
    LlamaForCausalLM(settings).float().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def loaded(folder: Path) -> torch.nn.Module:
    settings = config(folder)
    return load_base(settings, base=find_base(settings))


def completions() -> list[tuple[TokenIds, TokenIds]]:
    numbers = random.Random(0)
    return [
        (tuple(numbers.choices(range(1, 250), k=length)), tuple(numbers.choices(range(1, 250), k=6)))
        for length in LENGTHS
    ]


def alone(folder: Path, *, prompt: TokenIds, completion: TokenIds) -> torch.Tensor:
    """What the model gives where the sequence is the first that it sees."""
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        return naive_logps(model, prompt=prompt, completion=completion)


@torch.no_grad()
def test_a_sequence_has_the_log_probs_that_it_has_alone(folder: Path) -> None:
    model = loaded(folder)
    wanted = [alone(folder, prompt=prompt, completion=own) for prompt, own in completions()]
    one_by_one = [completions_token_logps(model, completions=[one])[0] for one in completions()]
    together = completions_token_logps(model, completions=completions())
    in_lanes = Lanes(2).each(lambda one: completions_token_logps(model, completions=[one])[0], completions())
    for found in (one_by_one, together, in_lanes):
        for logps, expected in zip(found, wanted, strict=True):
            assert float((logps - expected).abs().max()) < 1e-4


@torch.no_grad()
def test_a_long_row_leaves_nothing_for_another_thread_to_find(folder: Path) -> None:
    model: Any = loaded(folder)
    rotary = model.model.rotary_emb
    frequencies, cached = rotary.inv_freq.clone(), rotary.max_seq_len_cached
    completions_token_logps(model, completions=completions()[:1])
    assert torch.equal(rotary.inv_freq, frequencies)
    assert rotary.max_seq_len_cached == cached


@torch.no_grad()
def test_short_sequences_share_a_row_and_long_ones_do_not(folder: Path) -> None:
    model: Any = loaded(folder)
    rows: list[int] = []
    logps_path(model)
    model.model.rotary_emb.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[1]))
    short = [(prompt[:5], completion) for prompt, completion in completions()]
    completions_token_logps(model, completions=short)
    assert len(rows) == 1
    completions_token_logps(model, completions=completions())
    assert len(rows) == 1 + len(LENGTHS)
