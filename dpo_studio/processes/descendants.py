"""The processes below this one, as /proc has them, and how to leave none of them behind."""

from __future__ import annotations

import os
import signal
import time
from collections import defaultdict
from pathlib import Path


def descendants(*, of: int | None = None) -> list[int]:
    """Return the ids of all running processes below `of` (default: this one), its adopted orphans too."""
    children = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (parent := _living_parent(entry)) is not None:
            children[parent].append(int(entry.name))
    found: list[int] = []
    level = [os.getpid() if of is None else of]
    while level:
        level = [child for parent in level for child in children[parent]]
        found += level
    return found


def _living_parent(entry: Path) -> int | None:
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    state, parent = fields[0], int(fields[1])
    return None if state in "ZX" else parent


def reap(*, keep: int | None) -> None:
    """Collect the exit status of every ended child but `keep`, whose owner waits for it."""
    while True:
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid == keep:
            return
        os.waitpid(ended.si_pid, 0)


def end_descendants(*, patience: float) -> None:
    """Ask every process below this one to stop, and kill what is left after `patience` seconds."""
    _signal_all(signal.SIGTERM)
    deadline = time.monotonic() + patience
    while descendants() and time.monotonic() < deadline:
        time.sleep(0.05)
        reap(keep=None)
    while descendants():
        _signal_all(signal.SIGKILL)
        time.sleep(0.05)
        reap(keep=None)


def _signal_all(number: signal.Signals) -> None:
    for pid in descendants():
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
