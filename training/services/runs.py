"""The trainer as a subprocess of its job: a crash, a cancel or the memory killer never hits the worker."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings

from training.core.run.directory import RunDirectory
from training.parent_death import WISH_VARIABLE
from training.services.jobs import Claim, JobFailed, heartbeat

TRAINER = "training.core"
# Sampling, for which people wait, goes first where both want the processor.
POLITELY = ("nice", "-n", "10")
LOG_FILE = "train.log"
POLL_SECONDS = 1.0
SECONDS_TO_STOP = 10
LOG_BYTES_READ = 8_000
LONGEST_CAUSE = 600
# The line that ends a traceback, of one process or of one among several.
ERROR_LINE = re.compile(r"(\[rank\d+\]: )?[\w.]*(Error|Exception|Interrupt): \S")
# Threads that wait by spinning take the processor from the engine and from each other: where a CPU is shared,
# training was seen to run six times slower that way.
TRAINER_DEFAULTS = {"OMP_WAIT_POLICY": "PASSIVE"}


@dataclass(frozen=True)
class Progress:
    """How far the trainer is; `total` is None until it has said how much there is."""

    done: int
    total: int | None = None


def execute_run(
    claim: Claim,
    *,
    directory: Path,
    progress: Callable[[RunDirectory], Progress],
    module: str = TRAINER,
    until_trained: bool = False,
    is_polite: bool = False,
) -> None:
    """Run `training.core`, or another `module` of it, on a run directory to its end, unless it is there.

    The end is the result, or with `until_trained` the weights. A polite run leaves the processor to others.
    Raises JobFailed with the trainer's own cause, JobCancelled or AttemptSuperseded; in each case the trainer
    has ended before.
    """
    run = RunDirectory(directory)
    if _has_ended(run, until_trained=until_trained):
        return
    run.error.unlink(missing_ok=True)
    with accelerator_lock(claim) as lock, (directory / LOG_FILE).open("ab") as log:
        earlier_attempts = log.tell()
        arguments = [module, *(["--until-trained"] if until_trained else []), str(directory)]
        trainer = _start(arguments, is_polite=is_polite, lock=lock, log=log)
        try:
            while _still_running(trainer):
                now = progress(run)
                heartbeat(claim, done=now.done, total=now.total, message=doing_now(run))
        finally:
            _stop(trainer)
    if trainer.returncode != 0 or not _has_ended(run, until_trained=until_trained):
        raise JobFailed(cause_of_failure(run, returncode=trainer.returncode, since=earlier_attempts))


def _has_ended(run: RunDirectory, *, until_trained: bool) -> bool:
    return run.result.exists() or (until_trained and run.is_trained)


@contextmanager
def accelerator_lock(claim: Claim) -> Iterator[IO[str]]:
    """Wait for this machine's accelerator. The kernel frees the lock when its last holder, the trainer, ends.

    Raises JobCancelled or AttemptSuperseded while waiting.
    """
    path = Path(settings.STUDIO_HOME) / "run" / lock_name()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        while not _try_lock(lock):
            heartbeat(claim, message="Waiting for another training on this machine to end")
            time.sleep(POLL_SECONDS)
        heartbeat(claim, message="")
        yield lock


def lock_name() -> str:
    """Return a name that workers share exactly when they share an accelerator."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return "-".join(filter(None, ["train", socket.gethostname(), devices.replace(",", "-")])) + ".lock"


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _start(
    arguments: list[str], *, is_polite: bool, lock: IO[str], log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start the module that the first argument names, with the others."""
    # What a launcher spreads over processes is training alone.
    spread = arguments[0] == TRAINER
    launcher = (shlex.split(settings.TRAIN_LAUNCHER) if spread else []) or [sys.executable]
    if is_polite:
        launcher = [*POLITELY, *launcher]
    return subprocess.Popen(
        # A launcher such as torchrun does not end with this process by itself; its trainers end with it.
        [sys.executable, "-m", "training.core.process", *launcher, "-m", *arguments],
        cwd=settings.BASE_DIR,
        env=TRAINER_DEFAULTS | os.environ | {WISH_VARIABLE: "1", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        # The trainer inherits the locked file, so the lock lives as long as the trainer does.
        pass_fds=[lock.fileno()],
    )


def _still_running(trainer: subprocess.Popen[bytes]) -> bool:
    try:
        trainer.wait(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return True
    return False


def _stop(trainer: subprocess.Popen[bytes]) -> None:
    """End the trainer and what it has started: politely, for the sake of a checkpoint, then for certain."""
    if trainer.poll() is None:
        _signal_group(trainer, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            trainer.wait(timeout=SECONDS_TO_STOP)
    _signal_group(trainer, signal.SIGKILL)
    trainer.wait()


def _signal_group(trainer: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(trainer.pid, number)


def cause_of_failure(run: RunDirectory, *, returncode: int, since: int = 0) -> str:
    """Return one sentence: what the trainer wrote, else what its end and its last words tell.

    What stands before the place `since` of the log is of earlier attempts.
    """
    if written := _written_cause(run):
        return written[:LONGEST_CAUSE]
    if returncode == -signal.SIGKILL:
        return (
            "The trainer was killed, probably out of memory: reduce pairs per step or the maximum length, "
            "then train again."
        )
    ended = f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"
    last = _last_words(run.path / LOG_FILE, since=since)
    return f"The trainer ended with {ended}{f': {last}' if last else ''}; its log has more, then retry."[
        :LONGEST_CAUSE
    ]


def _written_cause(run: RunDirectory) -> str:
    try:
        return str(json.loads(run.error.read_text(encoding="utf-8")).get("cause", ""))
    except (OSError, ValueError, AttributeError):
        return ""


def _last_words(log: Path, *, since: int) -> str:
    """Return the last error that the log names, else its last line that says something.

    A launcher closes its log with a frame, and with an error of its own, that has no words on its line.
    """
    lines = [line for line in _last_lines(log, since=since) if any(letter.isalpha() for letter in line)]
    errors = [line for line in lines if ERROR_LINE.match(line)]
    return (errors or lines or [""])[-1]


def _last_line(log: Path) -> str:
    return next(iter(_last_lines(log)[-1:]), "")


def _last_lines(log: Path, *, since: int = 0) -> list[str]:
    """Return what the end of the log says, without blank lines."""
    try:
        with log.open("rb") as file:
            file.seek(max(since, log.stat().st_size - LOG_BYTES_READ))
            lines = file.read().decode("utf-8", errors="replace").split("\n")
    except OSError:
        return []
    return [line.strip() for line in lines if line.strip()]


def doing_now(run: RunDirectory) -> str:
    """Return the trainer's last word about its progress, such as "reference 12/95  about 20 s left"."""
    said = _said(run)
    return str(said.get("message", "")) if "done" in said else ""


def said_progress(run: RunDirectory, *, doing: str) -> Progress:
    """Return how far the trainer last said to be with what it calls `doing`; 0 before it begins with it."""
    lines = (_object(line) for line in reversed(_last_lines(run.path / LOG_FILE)))
    return Progress(done=next((int(said.get("done", 0)) for said in lines if said.get("doing") == doing), 0))


def _said(run: RunDirectory) -> dict[str, Any]:
    """Return the last line of the trainer's log; empty when it is no object."""
    return _object(_last_line(run.path / LOG_FILE))


def _object(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def training_progress(run: RunDirectory) -> Progress:
    """Return the last step in metrics.jsonl and the steps planned in receipt.json."""
    return Progress(done=_last_number(run.metrics, key="step"), total=_planned(run))


def scoring_progress(run: RunDirectory) -> Progress:
    """Return how many completions have been scored."""
    try:
        return Progress(done=run.scores.read_bytes().count(b"\n"))
    except FileNotFoundError:
        return Progress(done=0)


def _planned(run: RunDirectory) -> int | None:
    try:
        return int(json.loads(run.receipt.read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError):
        return None


def _last_number(path: Path, *, key: str) -> int:
    """Return `key` of the last complete line of a JSON-lines file, 0 before there is one."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_BYTES_READ))
            complete = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
        return int(json.loads(complete)[key])
    except (OSError, ValueError, KeyError):
        return 0
