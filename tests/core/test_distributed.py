"""Several processes under torchrun train a run as one would: real processes on a CPU, connected by gloo."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.core.support import example, gradients, load_job, write_run
from training.core.diagnostics import figures_of
from training.core.distributed import Ranks, join_ranks
from training.core.errors import TrainingError
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import read_json_lines
from training.core.run.records import read_evaluations, read_metrics
from training.core.stages.dpo import run_dpo
from training.core.stages.step import batch_backward

SECONDS = 120


def torchrun(*arguments: str, processes: int = 2) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MASTER_ADDR": "127.0.0.1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code and the output of a torchrun; it is killed when it hangs."""
    try:
        out, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode, out


def test_a_share_is_put_back_into_its_order() -> None:
    items = list(range(7))
    parts = [Ranks(rank=rank, size=3).share(items) for rank in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert Ranks(size=3).in_order(parts) == items
    assert Ranks(size=3).in_order([[1], [], []]) == [1]


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_sharing_the_weights_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(TrainingError, match=r"(FSDP|DeepSpeed) .* is not available; start with torchrun"):
        join_ranks()


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_figures_of_one(tmp_path: Path, base_folder: Path) -> None:
    examples = [example(number, weight=number + 1) for number in range(3)]
    run = write_run(tmp_path / "run", base=base_folder, examples=examples, optimizer={"pairs_per_step": 3})
    job = load_job(run, weights_seed=1)
    figures = asdict(figures_of(batch_backward(job, step=0)))
    alone = gradients(job.policy)
    code, out = ended(torchrun("-m", "tests.core.rank_gradients", str(run.path), str(tmp_path)))
    assert code == 0, out
    scale = max(float(gradient.abs().max()) for gradient in alone.values())
    for rank in range(2):
        shared = torch.load(tmp_path / f"gradients-{rank}.pt", weights_only=True)
        assert shared.keys() == alone.keys()
        for name, gradient in alone.items():
            assert float((shared[name] - gradient).abs().max()) <= 1e-6 * scale, name
        assert json.loads((tmp_path / f"figures-{rank}.json").read_text()) == pytest.approx(figures, rel=1e-5)
    assert (tmp_path / "error-0.txt").read_text() == "the last one cannot go on (process 1)"
    assert (tmp_path / "error-1.txt").read_text() == "the last one cannot go on"


@pytest.fixture
def shared_run(tmp_path: Path, base_folder: Path) -> RunDirectory:
    """Five training pairs two a step, so that the last batch of an epoch is one short, and some held out."""
    return write_run(
        tmp_path / "shared",
        base=base_folder,
        examples=[example(number) for number in range(8)],
        evaluation={"share": 0.4},
        optimizer={"epochs": 12},
        checkpoint_every=5,
    )


@pytest.mark.slow
def test_a_run_that_was_stopped_and_lost_a_process_ends_like_an_undisturbed_one_of_one_process(
    shared_run: RunDirectory, tmp_path: Path
) -> None:
    code, out = _disturbed(shared_run, at_step=3, by=signal.SIGTERM)
    assert code != 0
    reached = sum(1 for _ in read_metrics(shared_run.metrics))
    cause = f"stopped on request after step {reached} of 36; the same command goes on from there"
    assert json.loads(shared_run.error.read_text())["cause"].removesuffix(" (process 1)") == cause
    assert out.count(cause) == 1
    assert (shared_run.checkpoints / f"step-{reached:08d}").is_dir()

    code, out = _disturbed(shared_run, at_step=reached + 8, by=signal.SIGKILL)
    assert code != 0
    assert not shared_run.result.exists(), out

    code, out = ended(torchrun("-m", "training.core", str(shared_run.path)))
    assert code == 0, out
    assert out.count("going on after step") == 1
    plain = RunDirectory(tmp_path / "plain")
    plain.path.mkdir()
    for file in (shared_run.config, shared_run.examples):
        (plain.path / file.name).write_bytes(file.read_bytes())
    run_dpo(plain, config=read_config(plain.config))
    _assert_alike(shared_run, plain)


def _disturbed(run: RunDirectory, *, at_step: int, by: signal.Signals) -> tuple[int, str]:
    """Train with two processes and send the second one a signal once so many steps are taken."""
    process = torchrun("-m", "training.core", str(run.path))
    deadline = time.monotonic() + SECONDS
    while sum(1 for _ in read_metrics(run.metrics)) < at_step and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(_children(process.pid)[-1], by)
    return ended(process)


def _assert_alike(shared: RunDirectory, alone: RunDirectory) -> None:
    steps = list(read_metrics(shared.metrics))
    assert [line.step for line in steps] == list(range(1, len(steps) + 1))
    for ours, theirs in zip(steps, read_metrics(alone.metrics), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, abs=1e-4)
        assert ours.rewards_margins == pytest.approx(theirs.rewards_margins, abs=1e-3)
    evaluations = [line.step for line in read_evaluations(shared.metrics)]
    assert evaluations == [line.step for line in read_evaluations(alone.metrics)]
    assert [(line["id"], line["epoch"]) for line in read_json_lines(shared.margins)] == [
        (line["id"], line["epoch"]) for line in read_json_lines(alone.margins)
    ]
    weights = load_file(alone.adapter / "adapter_model.safetensors")
    for name, weight in load_file(shared.adapter / "adapter_model.safetensors").items():
        assert torch.allclose(weight, weights[name], atol=2e-3), name


def _children(pid: int) -> list[int]:
    """The trainers that a torchrun started, in the order of their ranks."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
