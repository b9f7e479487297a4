"""The process: stops between two steps, holds its run directory alone.

`python -m training.core.process COMMAND …` becomes COMMAND, which then ends with its parent: for launchers
that know nothing of it.
"""

import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from training.core.errors import RunStoppedError, TrainingError
from training.parent_death import die_with_parent_if_asked

_stop_requested = False


def rank_of_environment() -> int:
    """This process's number among those that torchrun started; 0 without torchrun."""
    return int(os.environ.get("RANK", "0"))


def stop_when_asked() -> None:
    """Turn SIGTERM, and the first Ctrl-C, into a request that `raise_if_stopped` answers at a safe point."""
    signal.signal(signal.SIGTERM, _request_stop)
    signal.signal(signal.SIGINT, _request_stop)


def raise_if_stopped(*, where: str) -> None:
    """Raise RunStoppedError when a stop was asked for; `where` is as in "before the first step"."""
    if _stop_requested:
        raise RunStoppedError(f"stopped on request {where}; the same command goes on from there")


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the run directory until the process ends; raises TrainingError when another holds it."""
    if not lock.parent.is_dir():
        raise NotADirectoryError(lock.parent)
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingError(
                f"another process is at work in {lock.parent}; wait for it or stop it first"
            ) from None
        yield


def _request_stop(number: int, _frame: FrameType | None) -> None:
    if number == signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    global _stop_requested
    _stop_requested = True


if __name__ == "__main__":
    die_with_parent_if_asked()
    os.execvp(sys.argv[1], sys.argv[1:])
