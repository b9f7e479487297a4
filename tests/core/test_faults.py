"""What may happen to a run from outside, done to real processes: kill -9 at any moment, a full disk."""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.core.support import example, write_run
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, sha256_of_file
from training.core.run.records import read_margins, read_metrics
from training.core.stages.dpo import run_dpo

pytestmark = pytest.mark.slow
SECONDS = 120
STEPS = 60


def start(run: RunDirectory, *, largest_file: int | None = None) -> subprocess.Popen[str]:
    """The trainer as a process of its own; with a limit, the kernel refuses to let a file grow beyond it."""

    def limit() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.Popen(
        [sys.executable, "-m", "training.core", str(run.path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def completed(run: RunDirectory, *, largest_file: int | None = None) -> tuple[int, str, str]:
    process = start(run, largest_file=largest_file)
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def frozen_run(path: Path, *, base: Path) -> RunDirectory:
    """A run that writes a checkpoint after every step, so that a kill often falls into one."""
    return write_run(
        path,
        base=base,
        examples=[example(number) for number in range(12)],
        optimizer={"epochs": STEPS // 3, "pairs_per_step": 4},
        checkpoint_every=1,
    )


def lines(run: RunDirectory) -> tuple[list[int], list[tuple[str, int]]]:
    """The steps of metrics.jsonl, and the examples and epochs of margins.jsonl, as they stand there."""
    steps = [line.step for line in read_metrics(run.metrics)]
    return steps, [(record.id, record.epoch) for record in read_margins(run.margins)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> RunDirectory:
    """The run as it ends when nothing happens to it."""
    run = frozen_run(tmp_path_factory.mktemp("whole") / "run", base=base_folder)
    run_dpo(run, config=read_config(run.config))
    return run


def test_killed_at_random_moments_a_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, base_folder: Path, whole: RunDirectory
) -> None:
    broken = frozen_run(tmp_path / "broken", base=base_folder)
    moments = random.Random(4)
    reached, inside_a_checkpoint = 0, False
    for part in range(3):
        process = start(broken)
        deadline = time.monotonic() + SECONDS
        while len(lines(broken)[0]) < reached + 4 and time.monotonic() < deadline:
            time.sleep(0.005)
        if part == 2:
            # Wait until a checkpoint is half written, which takes about a tenth of the run's time.
            while not list(broken.checkpoints.glob("*.tmp")) and time.monotonic() < deadline:
                pass
        else:
            time.sleep(moments.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        inside_a_checkpoint |= bool(list(broken.checkpoints.glob("*.tmp")))
        reached = len(lines(broken)[0])
    assert inside_a_checkpoint
    assert reached < STEPS
    code, out, err = completed(broken)
    assert code == 0, err
    assert "going on after step" in out
    for name in ("adapter_model.safetensors", "adapter_config.json", "probe.json", "README.md"):
        assert sha256_of_file(broken.adapter / name) == sha256_of_file(whole.adapter / name), name
    assert lines(broken) == lines(whole)
    assert lines(broken)[0] == list(range(1, STEPS + 1))
    assert not list(broken.path.rglob("*.tmp"))


def test_a_full_disk_ends_with_a_sentence_and_the_last_checkpoint_and_is_gone_on_from(
    tmp_path: Path, base_folder: Path, whole: RunDirectory
) -> None:
    run = frozen_run(tmp_path / "run", base=base_folder)
    # margins.jsonl grows with every step and meets the limit first, in the midst of the run.
    limit = max(
        (whole.margins.stat().st_size * 2) // 3,
        max(file.stat().st_size for file in whole.checkpoints.rglob("*")) + 4096,
    )
    code, _, err = completed(run, largest_file=limit)
    assert code == 74
    sentence = f"the disk of {run.path} is full; free some space and start the same run again: it goes on"
    assert err.splitlines()[-1] == sentence
    assert "Traceback" not in err
    assert json.loads(run.error.read_text()) == {"cause": sentence}
    newest = max(run.checkpoints.glob("step-*"))
    assert damaged_file(newest) is None
    code, out, err = completed(run)
    assert code == 0, err
    assert f"going on after step {int(newest.name.removeprefix('step-'))}" in out
    assert lines(run) == lines(whole)
    weights = "adapter_model.safetensors"
    assert sha256_of_file(run.adapter / weights) == sha256_of_file(whole.adapter / weights)
