"""Which process is which: a pid comes back, a pid together with its start time does not."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

STATE_FIELD, START_TIME_FIELD = 3, 22


@dataclass(frozen=True)
class ProcessIdentity:
    """A process on a host; `started` is its start time in clock ticks since boot, as /proc gives it."""

    host: str
    pid: int
    started: str


def this_process() -> ProcessIdentity:
    """Return the identity of the calling process."""
    pid = os.getpid()
    return ProcessIdentity(host=socket.gethostname(), pid=pid, started=start_time(pid) or "")


def start_time(pid: int) -> str | None:
    """Return field 22 of /proc/<pid>/stat, or None when no such process runs (a zombie does not run)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in parentheses and may hold spaces and parentheses itself.
    fields = stat.rpartition(")")[2].split()
    if fields[STATE_FIELD - 3] in "ZX":
        return None
    return fields[START_TIME_FIELD - 3]


def is_gone(process: ProcessIdentity) -> bool | None:
    """Return whether the process has ended; None when it ran on another host and cannot be seen from here."""
    if process.host != socket.gethostname():
        return None
    return start_time(process.pid) != process.started
