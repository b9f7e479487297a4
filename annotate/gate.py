"""Who writes a label when, where the database has one writer at a time: SQLite.

Two queues, each of which only orders who waits; the database's own lock keeps its promises without them.

- Within a process one labelling request runs at a time. If other threads computed meanwhile, a transaction
  would wait for the interpreter after each of its statements, and everybody else for the transaction.
- Between processes, writers wait for a file beside the database, asleep until the kernel wakes them. SQLite
  itself would have them look again after pauses of up to 100 ms, with the database idle in between and the
  unlucky overtaken again and again. The kernel drops the lock when a process dies.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse

Arguments = ParamSpec("Arguments")
View = Callable[Concatenate[HttpRequest, Arguments], HttpResponse]

_turn = threading.Lock()


def one_at_a_time(view: View[Arguments]) -> View[Arguments]:
    """Let one request at a time into the views that are marked with this, where SQLite is used."""

    @wraps(view)
    def in_turn(request: HttpRequest, /, *args: Arguments.args, **kwargs: Arguments.kwargs) -> HttpResponse:
        if connection.vendor != "sqlite":
            return view(request, *args, **kwargs)
        with _turn:
            return view(request, *args, **kwargs)

    return in_turn


@contextmanager
def write_transaction() -> Iterator[None]:
    """Open a transaction that writes, with SQLite when the writers before it are done."""
    # Within a transaction the database's lock is held already: whoever has the file would wait for that.
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    with _file_held(f"{connection.settings_dict['NAME']}.writers"), transaction.atomic():
        yield


@contextmanager
def _file_held(path: str) -> Iterator[None]:
    # Opened anew each time (10 µs), since threads that share an open file would not exclude each other.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
