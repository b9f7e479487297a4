"""The ledger: what it stores, what it does not compute again, and what it survives."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.core.models import made_model, made_steady_model
from tests.core.support import plain_pair_logps, random_pair
from training.core.data.encode import EncodedPair
from training.core.errors import TrainingError
from training.core.lanes import ONE, Lanes
from training.core.logprobs.ledger import Ledger, open_ledger
from training.core.logprobs.pairs import PairTokenLogps
from training.core.logprobs.paths import logps_path
from training.core.logprobs.reference import reference_completion_logps, reference_logps
from training.core.progress import Progress

PAIRS = [
    random_pair(prompt=9, chosen=5, rejected=7),
    random_pair(prompt=1, chosen=1, rejected=1, seed=1),
    random_pair(prompt=140, chosen=1, rejected=12, seed=2),
]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return made_steady_model()


def opened(folder: Path, *, reference: str = "a" * 64, dtype: str = "float32") -> Any:
    return open_ledger(folder / "ledger.sqlite", reference=reference, dtype=dtype)


def filled(
    model: nn.Module, *, ledger: Ledger, pairs: list[EncodedPair] = PAIRS, lanes: Lanes = ONE
) -> list[PairTokenLogps]:
    shown = Progress("reference", total=len(pairs))
    found = list(reference_logps(model, pairs=pairs, ledger=ledger, shown=shown, lanes=lanes))
    assert shown.done == len(pairs)
    return found


@contextmanager
def counted_passes(model: nn.Module) -> Iterator[list[int]]:
    """The token counts of the forward passes made inside."""
    seen: list[int] = []
    backbone: Any = model.base_model
    hook = backbone.register_forward_hook(
        lambda _module, _inputs, named, _output: seen.append(named["input_ids"].shape[1]), with_kwargs=True
    )
    yield seen
    hook.remove()


def same(first: list[PairTokenLogps], second: list[PairTokenLogps]) -> bool:
    return all(
        torch.equal(one.chosen, other.chosen) and torch.equal(one.rejected, other.rejected)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("kind", ["llama", "mistral with a window", "gemma2", "gpt2", "mamba", "cohere"])
def test_stored_log_probs_are_those_of_each_completion_alone(tmp_path: Path, kind: str) -> None:
    policy = made_model(kind)
    with opened(tmp_path) as ledger:
        found = filled(policy, ledger=ledger)
    with torch.no_grad():
        for pair, logps in zip(PAIRS, found, strict=True):
            live = plain_pair_logps(policy, pair)
            assert logps.chosen.dtype == torch.float32
            assert torch.allclose(logps.chosen, live.chosen, atol=1e-4)
            assert torch.allclose(logps.rejected, live.rejected, atol=1e-4)


def test_known_completions_cost_no_forward_pass(model: nn.Module, tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        first = filled(model, ledger=ledger)
    with opened(tmp_path) as ledger, counted_passes(model) as passes:
        again = filled(model, ledger=ledger)
    assert passes == []
    assert same(first, again)


def test_a_ledger_filled_in_two_lanes_has_the_entries_of_one(tmp_path: Path) -> None:
    model = made_steady_model()
    with opened(tmp_path) as ledger:
        one = filled(model, ledger=ledger)
    (tmp_path / "other").mkdir()
    with opened(tmp_path / "other") as ledger, counted_passes(model) as passes:
        two = filled(model, ledger=ledger, lanes=Lanes(2))
    assert len(passes) > 1
    assert same(one, two)


def test_the_prompt_is_computed_once_for_both_completions(model: nn.Module, tmp_path: Path) -> None:
    with opened(tmp_path) as ledger, counted_passes(model) as passes:
        filled(model, ledger=ledger, pairs=PAIRS[:1])
    # A completion's last token predicts nothing.
    assert passes == [9 + 4 + 6]


def test_completions_are_computed_one_by_one_where_a_row_would_change_them(tmp_path: Path) -> None:
    unsteady = made_model("llama")
    assert not logps_path(unsteady).steady
    with opened(tmp_path) as ledger, counted_passes(unsteady) as passes:
        filled(unsteady, ledger=ledger, pairs=PAIRS[:1])
    assert passes == [9 + 4, 9 + 6]


def test_a_completion_that_comes_twice_is_computed_once(model: nn.Module, tmp_path: Path) -> None:
    twice = random_pair(prompt=3, chosen=4, rejected=4)
    twice = replace(twice, rejected=twice.chosen)
    with opened(tmp_path) as ledger, counted_passes(model) as passes:
        (first, second) = filled(model, ledger=ledger, pairs=[twice, twice])
    assert passes == [3 + 3]
    assert torch.equal(first.chosen, second.rejected)


def test_an_entry_computed_again_is_the_same_bit_for_bit_whatever_else_is_computed(
    model: nn.Module, tmp_path: Path
) -> None:
    with opened(tmp_path) as ledger:
        together = filled(model, ledger=ledger)
    (tmp_path / "ledger.sqlite").unlink()
    completions = [(pair.prompt, pair.rejected) for pair in reversed(PAIRS)]
    with opened(tmp_path) as ledger:
        shown = Progress("reference", total=len(completions))
        alone = reference_completion_logps(model, completions=completions, ledger=ledger, shown=shown)
    for pair, logps in zip(reversed(together), alone, strict=True):
        assert torch.equal(pair.rejected, logps)


@pytest.mark.parametrize("other", [{"reference": "b" * 64}, {"dtype": "bfloat16"}])
def test_another_reference_or_dtype_has_entries_of_its_own(
    model: nn.Module, tmp_path: Path, other: dict[str, str]
) -> None:
    with opened(tmp_path) as ledger:
        filled(model, ledger=ledger, pairs=PAIRS[:1])
    with opened(tmp_path, **other) as ledger, counted_passes(model) as passes:
        filled(model, ledger=ledger, pairs=PAIRS[:1])
    assert len(passes) == 1


def test_the_same_tokens_divided_otherwise_are_another_entry(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        keys = {ledger.key(method="m", prompt=(1, 2, 3)[:cut], completion=(1, 2, 3)[cut:]) for cut in (1, 2)}
    assert len(keys) == 2


def test_layers_that_recompute_their_activations_still_fill_it_rightly(tmp_path: Path) -> None:
    policy: Any = made_model("llama")
    with opened(tmp_path) as ledger:
        wanted = filled(policy, ledger=ledger)
    policy.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    policy.train()
    with opened(tmp_path, reference="c" * 64) as ledger:
        assert same(filled(policy, ledger=ledger), wanted)
    assert all(layer.gradient_checkpointing for layer in policy.base_model.layers)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE logps SET value = zeroblob(length(value))",
        "UPDATE logps SET value = substr(value, 1, 4)",
        "UPDATE logps SET checksum = NULL",
        "UPDATE logps SET value = 'text'",
    ],
)
def test_a_damaged_entry_is_computed_again(model: nn.Module, tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as ledger:
        first = filled(model, ledger=ledger)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as connection:
        connection.execute(damage)
    with opened(tmp_path) as ledger:
        assert same(filled(model, ledger=ledger), first)
    with opened(tmp_path) as ledger, counted_passes(model) as passes:
        filled(model, ledger=ledger)
    assert passes == []


@pytest.mark.parametrize("part", ["head", "pages"])
def test_a_damaged_file_is_set_aside_and_filled_anew(
    model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str], part: str
) -> None:
    with opened(tmp_path) as ledger:
        first = filled(model, ledger=ledger)
    file = tmp_path / "ledger.sqlite"
    content = bytearray(file.read_bytes())
    kept = slice(0, 100) if part == "head" else slice(100, len(content))
    content[kept] = b"\xff" * len(content[kept])
    file.write_bytes(bytes(content))
    with opened(tmp_path) as ledger:
        assert same(filled(model, ledger=ledger), first)
    assert "is damaged; it is set aside as ledger.sqlite.damaged-1" in capsys.readouterr().out
    assert (tmp_path / "ledger.sqlite.damaged-1").read_bytes() == bytes(content)


def test_a_full_disk_ends_with_a_sentence(model: nn.Module, tmp_path: Path) -> None:
    long = [random_pair(prompt=2, chosen=120, rejected=120, seed=seed) for seed in range(40)]
    with opened(tmp_path) as ledger:
        # SQLite's own limit stands in for the disk's: it answers both alike.
        ledger._connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(TrainingError, match="its disk is full"):
            filled(model, ledger=ledger, pairs=long)
        ledger._connection.execute("PRAGMA max_page_count = 1000")


def test_a_ledger_in_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="cannot be opened"), opened(tmp_path / "nowhere"):
        pass


def test_many_begin_one_ledger_at_once(tmp_path: Path) -> None:
    together = threading.Barrier(8, timeout=20)

    def begin(folder: Path) -> None:
        together.wait()
        with opened(folder):
            pass

    with ThreadPoolExecutor(8) as threads:
        for number in range(20):
            (folder := tmp_path / str(number)).mkdir()
            for one in [threads.submit(begin, folder) for _ in range(8)]:
                one.result()


WRITER = """
import sys, time
from pathlib import Path
import torch
from training.core.logprobs.ledger import open_ledger

folder, first = Path(sys.argv[1]), int(sys.argv[2])
(folder / f"ready-{first}").touch()
while len(list(folder.glob("ready-*"))) < 2:
    time.sleep(0.01)
with open_ledger(folder / "ledger.sqlite", reference="a" * 64, dtype="float32") as ledger:
    for number in range(first, first + 2000):
        key = ledger.key(method="m", prompt=(number,), completion=(1, 2))
        ledger.write(key, logps=torch.tensor([float(number), 0.5]))
        ledger.flush()
"""


@pytest.mark.slow
def test_two_processes_fill_one_ledger_at_once(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(first)]) for first in (0, 1000)
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    with opened(tmp_path) as ledger:
        for number in range(3000):
            key = ledger.key(method="m", prompt=(number,), completion=(1, 2))
            assert torch.equal(ledger.read(key, tokens=2), torch.tensor([float(number), 0.5]))
