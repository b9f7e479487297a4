"""Let a process die with its parent (Linux), so that a `kill -9` anywhere leaves nothing running.

The standard library alone, since every part of the product may import it: the process manager, the engine's
side, the jobs and the trainer.
"""

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "STUDIO_PARENT_PID"
WISH_VARIABLE = "STUDIO_DIE_WITH_PARENT"
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(*, signal_number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send this process `signal_number` when its parent ends; exit now if it has ended.

    A parent that called this itself left its process id in the environment, which is how a child that was
    orphaned before this call finds out. The kernel forgets the wish at fork and keeps it at exec. Calling it
    again is harmless.
    """
    known = os.environ.get(PARENT_VARIABLE)
    if known == str(os.getpid()):
        return
    _end_with(os.getppid() if known is None else int(known), signal_number=signal_number)
    os.environ[PARENT_VARIABLE] = str(os.getpid())


def die_with_parent_if_asked() -> None:
    """With STUDIO_DIE_WITH_PARENT set, die with the parent, whichever it is: for programs also run by hand.

    The variable holds 1, or the parent's process id, which also catches one that died before this call.
    """
    stated = os.environ.get(WISH_VARIABLE, "")
    if stated:
        _end_with(os.getppid() if stated == "1" else int(stated), signal_number=signal.SIGKILL)


def adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that it can find and stop them."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_with(parent: int, *, signal_number: signal.Signals) -> None:
    _prctl(_PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        sys.exit(f"The parent process {parent} ended before this one began; stopping too.")


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}, {value}): {os.strerror(error)}")
