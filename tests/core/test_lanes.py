"""Passes side by side give what they give one after the other, in the same order, every time."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.core.kills import Killed, kill_at_call
from tests.core.sft_support import write_sft_run
from tests.core.support import example, load_job, write_run
from training.core.errors import TrainingError
from training.core.lanes import ONE, Lanes
from training.core.logprobs import paths
from training.core.logprobs.paths import logps_path
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import sha256_of_file
from training.core.run.weights import TrainedWeights
from training.core.stages import dpo as trainer
from training.core.stages import preparation, sft
from training.core.stages.demonstrations import batch_backward
from training.core.stages.dpo import run_dpo
from training.core.stages.preferences import PreferenceData
from training.core.stages.sft import prepare_sft

TWO = Lanes(2)


def gradients(weights: TrainedWeights) -> list[torch.Tensor]:
    found = [weight.grad for weight in weights.parameters if weight.grad is not None]
    weights.forget_gradients()
    return found


def assert_alike(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    assert len(found) == len(wanted) > 0
    largest = max(float(gradient.abs().max()) for gradient in wanted)
    assert largest > 0
    for one, other in zip(found, wanted, strict=True):
        assert float((one - other).abs().max()) <= 1e-6 * largest


def test_results_are_in_order_and_come_from_several_threads() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(item: int) -> tuple[int, str]:
        both.wait()
        return item, threading.current_thread().name

    found = TWO.each(work, [1, 2, 3, 4])
    assert [item for item, _ in found] == [1, 2, 3, 4]
    assert len({name for _, name in found}) == 2


def test_gradients_are_recorded_in_a_lane_where_they_are_for_the_caller() -> None:
    with torch.no_grad():
        assert TWO.each(lambda _: torch.is_grad_enabled(), [1, 2]) == [False, False]
    assert TWO.each(lambda _: torch.is_grad_enabled(), [1, 2]) == [True, True]


def test_the_first_error_is_raised_when_every_lane_has_ended() -> None:
    ended: list[int] = []

    def work(item: int) -> None:
        if item < 2:
            raise TrainingError(f"item {item}")
        ended.append(item)

    with pytest.raises(TrainingError, match="item 0"):
        TWO.each(work, [0, 1, 2, 3])
    assert sorted(ended) == [2, 3]


def test_shares_are_about_as_large_as_each_other() -> None:
    assert TWO.shares([10, 1, 1, 9]) == [[0, 2], [1, 3]]
    assert TWO.shares([5]) == [[0]]
    assert TWO.shares([]) == []
    assert ONE.shares([3, 4]) == [[0, 1]]


def test_pairs_in_lanes_have_the_gradient_and_the_looks_of_one_lane(
    tmp_path: Path, base_folder: Path
) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(number) for number in range(5)])
    job = load_job(run, weights_seed=1)
    assert isinstance(job.data, PreferenceData)
    looks, grads = [], []
    for lanes in (ONE, TWO, TWO):
        data = replace(job.data, lanes=lanes)
        looks.append(data.looks([4, 1, 0, 3, 2], where="", weights=job.weights, total=5))
        grads.append(gradients(job.weights))
    assert [look.index for look in looks[1]] == [4, 1, 0, 3, 2]
    for one, other in zip(looks[0], looks[1], strict=True):
        assert other.loss == pytest.approx(one.loss, abs=1e-6)
        assert other.margin == pytest.approx(one.margin, abs=1e-5)
    assert_alike(grads[1], grads[0])
    assert all(torch.equal(one, other) for one, other in zip(grads[1], grads[2], strict=True))


def test_demonstrations_in_lanes_have_the_gradient_of_one_lane(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(lanes: Lanes, *, name: str) -> list[torch.Tensor]:
        monkeypatch.setattr(sft, "open_lanes", lambda _: lanes)
        run = write_sft_run(tmp_path / name, base=base_folder, count=5)
        job = prepare_sft(run, config=read_config(run.config))
        torch.manual_seed(0)
        with torch.no_grad():
            for weight in job.weights.parameters:
                weight.normal_(std=0.05)
        job.weights.publish()
        batch_backward(job, indices=[0, 1, 2, 3, 4], step=0)
        return gradients(job.weights)

    assert_alike(found(TWO, name="two"), found(ONE, name="one"))


def test_lanes_wait_for_the_trial_that_finds_the_way_to_the_log_probs(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It switches the adapter off: a lane that went on meanwhile would compute the reference."""
    run = write_sft_run(tmp_path / "run", base=base_folder, count=5)
    policy = prepare_sft(run, config=read_config(run.config)).policy
    tried: list[str] = []
    found = paths._find_path

    def slow(model: nn.Module) -> paths.LogpsPath:
        tried.append(threading.current_thread().name)
        time.sleep(0.3)
        return found(model)

    def adapter_is_on(_: int) -> bool:
        logps_path(policy)
        return all(weight.requires_grad for name, weight in policy.named_parameters() if "lora_" in name)

    monkeypatch.setattr(paths, "_find_path", slow)
    assert TWO.each(adapter_is_on, range(4)) == [True] * 4
    assert len(tried) == 1


def test_a_killed_run_in_lanes_ends_in_the_bits_of_an_undisturbed_one(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "open_lanes", lambda _: TWO)

    def frozen(name: str) -> RunDirectory:
        return write_run(
            tmp_path / name,
            base=base_folder,
            examples=[example(number) for number in range(8)],
            optimizer={"epochs": 2, "pairs_per_step": 4},
            checkpoint_every=1,
        )

    undisturbed, killed = frozen("undisturbed"), frozen("killed")
    run_dpo(undisturbed, config=read_config(undisturbed.config))
    with monkeypatch.context() as patched:
        kill_at_call(patched, trainer, "train_step", call=3)
        with pytest.raises(Killed):
            run_dpo(killed, config=read_config(killed.config))
    run_dpo(killed, config=read_config(killed.config))
    weights = [sha256_of_file(run.adapter / "adapter_model.safetensors") for run in (undisturbed, killed)]
    assert weights[0] == weights[1]
    assert undisturbed.margins.read_text() == killed.margins.read_text()
