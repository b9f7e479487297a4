"""Let a process die with its parent (Linux), so that a `kill -9` anywhere leaves nothing running."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
PARENT_VARIABLE = "STUDIO_PARENT_PID"


def die_with_parent(*, signal_number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `signal_number` when its parent ends; exit now if it has ended.

    A parent that called this itself left its process id in the environment, which is how a child that was
    orphaned before this call finds out. The kernel forgets the wish at fork and keeps it at exec. Calling it
    again is harmless.
    """
    known = os.environ.get(PARENT_VARIABLE)
    if known == str(os.getpid()):
        return
    _prctl(PR_SET_PDEATHSIG, signal_number)
    if known is not None and int(known) != os.getppid():
        sys.exit(f"The parent process {known} ended before this one began; stopping too.")
    os.environ[PARENT_VARIABLE] = str(os.getpid())


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that it can find and stop them."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")
