"""`python -m training.core`: real processes, their exit codes, last words and ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.core.support import example, write_run
from training.core.run.directory import RunDirectory
from training.core.run.files import sha256_of_file
from training.core.run.records import read_metrics

pytestmark = pytest.mark.slow
SECONDS = 120


def command(run: Path, *, variables: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "training.core", str(run)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def running(run: Path) -> Iterator[subprocess.Popen[str]]:
    process = command(run)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def completed(run: Path) -> subprocess.CompletedProcess[str]:
    process = command(run)
    out, err = process.communicate(timeout=SECONDS)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def steps(run: RunDirectory) -> int:
    return sum(1 for _ in read_metrics(run.metrics))


@pytest.fixture
def long_run(tmp_path: Path, base_folder: Path) -> RunDirectory:
    """Sixty steps, so that a signal arrives in their midst."""
    examples = [example(number) for number in range(6)]
    return write_run(
        tmp_path / "long", base=base_folder, examples=examples, optimizer={"epochs": 20}, checkpoint_every=7
    )


def test_help_teaches_the_run_directory() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "training.core", "--help"], capture_output=True, text=True, check=True
    )
    for word in ("config.json", "examples.jsonl", "parent_adapter", "metrics.jsonl", "143", "score"):
        assert word in shown.stdout


def test_a_finished_run_says_so_and_is_left_alone(run: RunDirectory) -> None:
    run.error.write_text('{"cause": "of an earlier attempt"}')
    first = completed(run.path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "6 of 6 pairs can be used; 6 steps" in first.stdout
    assert "step 6/6" in first.stdout
    assert not run.error.exists()
    before = run.result.read_bytes()
    again = completed(run.path)
    assert again.returncode == 0
    assert "is finished" in again.stdout
    assert run.result.read_bytes() == before


def test_a_refused_setting_is_the_last_line_and_the_cause(run: RunDirectory) -> None:
    run.config.write_text(json.dumps({"base_model": "x", "loss": {"name": "dpo", "beta": -0.1}}))
    ended = completed(run.path)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "β = -0.1 must be above 0; 0.1 is usual"
    assert json.loads(run.error.read_text()) == {"cause": "β = -0.1 must be above 0; 0.1 is usual"}


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = completed(tmp_path / "absent")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith(
        "absent is not a folder; give a run directory with config.json and examples.jsonl"
    )


def test_an_unforeseen_error_still_ends_in_a_cause(run: RunDirectory) -> None:
    run.metrics.mkdir()
    ended = completed(run.path)
    assert ended.returncode == 1
    cause = json.loads(run.error.read_text())["cause"]
    assert ended.stderr.splitlines()[-1] == cause
    assert cause.startswith("IsADirectoryError: ")


def test_killed_at_any_moment_the_same_command_ends_in_the_same_adapter(
    long_run: RunDirectory, tmp_path: Path, base_folder: Path
) -> None:
    examples = [example(number) for number in range(6)]
    undisturbed = write_run(
        tmp_path / "plain", base=base_folder, examples=examples, optimizer={"epochs": 20}, checkpoint_every=7
    )
    assert completed(undisturbed.path).returncode == 0
    for reached in (10, 30):
        with running(long_run.path) as process:
            wait_until(lambda reached=reached: steps(long_run) >= reached)  # type: ignore[misc]
            process.send_signal(signal.SIGKILL)
            process.wait(SECONDS)
        assert not long_run.result.exists()
    ended = completed(long_run.path)
    assert ended.returncode == 0
    assert "going on after step" in ended.stdout
    assert [line.step for line in read_metrics(long_run.metrics)] == list(range(1, 61))
    for name in ("adapter_model.safetensors", "probe.json", "README.md"):
        assert sha256_of_file(long_run.adapter / name) == sha256_of_file(undisturbed.adapter / name)


def test_sigterm_stops_with_a_checkpoint_and_exit_code_143(long_run: RunDirectory) -> None:
    with running(long_run.path) as process:
        wait_until(lambda: steps(long_run) >= 9)
        process.terminate()
        _, err = process.communicate(timeout=SECONDS)
        assert process.returncode == 143
    reached = steps(long_run)
    assert reached < 60
    cause = f"stopped on request after step {reached} of 60; the same command goes on from there"
    assert err.splitlines()[-1] == cause
    assert json.loads(long_run.error.read_text()) == {"cause": cause}
    assert (long_run.checkpoints / f"step-{reached:08d}").is_dir()


def test_a_second_trainer_is_kept_out_of_a_directory_in_use(long_run: RunDirectory) -> None:
    with running(long_run.path):
        wait_until(lambda: steps(long_run) >= 1)
        second = completed(long_run.path)
        assert second.returncode == 1
        assert "another process is at work in" in second.stderr.splitlines()[-1]
        assert not long_run.error.exists()


def test_the_trainer_dies_with_its_parent(long_run: RunDirectory) -> None:
    script = (
        "import subprocess, sys, time;"
        f"child = subprocess.Popen([sys.executable, '-m', 'training.core', {str(long_run.path)!r}]);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    variables = {**os.environ, "STUDIO_DIE_WITH_PARENT": "1", "OMP_NUM_THREADS": "1"}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=variables
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: steps(long_run) >= 1)
    parent.kill()
    parent.wait()
    wait_until(lambda: not _alive(child))
    assert not long_run.result.exists()


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
