"""Who writes a label when, where the database has one writer at a time: SQLite.

Two queues, each of which only orders who waits; the database's own lock keeps its promises without them.

- Within a process one labelling request runs at a time. If other threads computed meanwhile, a transaction
  would wait for the interpreter after each of its statements, and everybody else for the transaction.
- Between processes, writers wait for a file beside the database, asleep until the kernel wakes them. SQLite
  itself would have them look again after pauses of up to 100 ms, with the database idle in between and the
  unlucky overtaken again and again. The kernel drops the lock when a process dies.

And nobody waits in either for the disk: a writer makes its commit durable after it has handed on its turn,
and before it is answered.
"""

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import resolve

Answer = Callable[[HttpRequest], HttpResponse]
View = Callable[..., HttpResponse]

_turn = threading.Lock()


class _Owed(threading.local):
    """The log that this thread has yet to make durable, and whether that may wait for the request's end."""

    log = ""
    may_wait = False


_owed = _Owed()


def one_at_a_time(view: View) -> View:
    """Mark a view: with SQLite, a process answers one request to the marked views at a time."""
    view.takes_turns = True  # type: ignore[attr-defined]
    return view


def taking_turns(get_response: Answer) -> Answer:
    """Middleware that lets requests to the marked views in one after the other."""

    def middleware(request: HttpRequest) -> HttpResponse:
        if connection.vendor != "sqlite" or not _takes_turns(request):
            return get_response(request)
        request.body  # noqa: B018  # a slow upload is waited for before the turn, not within it
        with _disk_waited_for_at_the_end(), _turn:
            return get_response(request)

    return middleware


@contextmanager
def write_transaction() -> Iterator[None]:
    """Open a transaction that writes, with SQLite when the writers before it are done.

    When this ends the commit is durable, or will be before the request is answered.
    """
    # Within a transaction the database's lock is held already: whoever has the file would wait for that.
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic():
            yield
        return
    # SQLite keeps its log beside the file that a link leads to.
    database = os.path.realpath(str(connection.settings_dict["NAME"]))
    with _file_held(f"{database}.writers"), _commit_without_the_disk(), transaction.atomic():
        yield
    _owed.log = f"{database}-wal"
    if not _owed.may_wait:
        _wait_for_the_disk()


def _takes_turns(request: HttpRequest) -> bool:
    try:
        return getattr(resolve(request.path_info).func, "takes_turns", False)
    except Http404:
        return False


@contextmanager
def _file_held(path: str) -> Iterator[None]:
    # Opened anew each time (10 µs), since threads that share an open file would not exclude each other.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _commit_without_the_disk() -> Iterator[None]:
    """Let SQLite end a commit once the log is written; `_wait_for_the_disk` does the rest of FULL."""
    connection.ensure_connection()
    execute = connection.connection.execute
    execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        execute(f"PRAGMA synchronous = {settings.SQLITE_SYNCHRONOUS}")


@contextmanager
def _disk_waited_for_at_the_end() -> Iterator[None]:
    _owed.may_wait = True
    try:
        yield
    finally:
        _owed.may_wait = False
        _wait_for_the_disk()


def _wait_for_the_disk() -> None:
    """Sync the log that this thread's commits went to; one sync serves all commits before it.

    Without a log there is nothing to do: a checkpoint has synced its pages into the database. SQLite holds no
    locks on the log, so that closing another descriptor of it drops none.
    """
    log, _owed.log = _owed.log, ""
    if not log or settings.SQLITE_SYNCHRONOUS != "FULL":
        return
    with suppress(FileNotFoundError):
        descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
