"""The ledger: the frozen reference's per-token log-probs, computed once in a completion's life.

One SQLite file. A key is the sha256 of all that decides the values (the reference's hash, the dtype, how they
are computed, prompt and completion token ids); a value is the log-probs as little-endian float32, with a
checksum. Several processes may use one file at once.
"""

import hashlib
import sqlite3
import sys
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from training.core.errors import TrainingError
from training.core.progress import say
from training.core.run.directory import TokenIds

BUSY_SECONDS = 60.0
# Entries are committed in batches: at most this many or this old are lost when the process is killed.
BATCH_ENTRIES = 64
BATCH_SECONDS = 5.0
_SCHEMA = "CREATE TABLE IF NOT EXISTS logps (key BLOB PRIMARY KEY, value BLOB, checksum BLOB) WITHOUT ROWID"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_Result = TypeVar("_Result")


@dataclass
class Ledger:
    """An open ledger of one reference; use `open_ledger`."""

    path: Path
    identity: bytes
    _connection: sqlite3.Connection
    _waiting: dict[bytes, bytes] = field(default_factory=dict)
    _written: float = field(default_factory=time.monotonic)

    def key(self, *, method: str, prompt: TokenIds, completion: TokenIds) -> bytes:
        """The entry's name: `method` is the way of computing, whose rounding is its own."""
        digest = hashlib.sha256(self.identity)
        digest.update(f"{method}\n{len(prompt)} {len(completion)}\n".encode())
        digest.update(_bytes(array("q", [*prompt, *completion])))
        return digest.digest()

    def read(self, key: bytes, *, tokens: int) -> Tensor | None:
        """The log-probs stored under a key, float32, (tokens,); None where none are or they are damaged."""
        value = self._waiting.get(key)
        if value is None:
            row = self._guarded(
                lambda: self._connection.execute(
                    "SELECT value, checksum FROM logps WHERE key = ?", (key,)
                ).fetchone()
            )
            if row is None or not isinstance(row[0], bytes) or row[1] != _checksum(key, value=row[0]):
                return None
            value = row[0]
        if len(value) != 4 * tokens:
            return None
        numbers = array("f", value)
        if sys.byteorder == "big":
            numbers.byteswap()
        return torch.tensor(numbers, dtype=torch.float32)

    def write(self, key: bytes, *, logps: Tensor) -> None:
        """Store an entry, in place of a damaged one; on disk after the batch's end at the latest."""
        self._waiting[key] = _bytes(array("f", logps.tolist()))
        if len(self._waiting) >= BATCH_ENTRIES or time.monotonic() - self._written > BATCH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Commit what waits. Raises TrainingError when the disk is full."""
        rows = [(key, value, _checksum(key, value=value)) for key, value in self._waiting.items()]
        if rows:
            self._guarded(lambda: self._insert(rows))
        self._waiting.clear()
        self._written = time.monotonic()

    def close(self) -> None:
        """Let the file go."""
        self._connection.close()

    def _insert(self, rows: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        with self._connection:
            self._connection.executemany("INSERT OR REPLACE INTO logps VALUES (?, ?, ?)", rows)

    def _guarded(self, action: Callable[[], _Result]) -> _Result:
        """The action's result; a damaged file is set aside, and the action done on a new one."""
        try:
            return action()
        except sqlite3.DatabaseError as error:
            if not _is_damaged(error):
                raise _cause(error, path=self.path) from error
            self._connection.close()
            self._connection = _new_file_for_damaged(self.path)
            return action()


@contextmanager
def open_ledger(path: Path, *, reference: str, dtype: str) -> Iterator[Ledger]:
    """The ledger at `path`, made where there is none, for the reference of that sha256 in that dtype.

    What was written inside is on disk afterwards, whatever happens inside. Raises TrainingError when the file
    cannot be used; one that is no database any more is set aside, with a sentence, and a new one begun.
    """
    try:
        connection = _connected(path)
    except sqlite3.DatabaseError as error:
        if not _is_damaged(error):
            raise _cause(error, path=path) from error
        connection = _new_file_for_damaged(path)
    identity = hashlib.sha256(f"{reference}\n{dtype}\ntorch {torch.__version__}".encode()).digest()
    with closing(Ledger(path=path, identity=identity, _connection=connection)) as ledger:
        try:
            yield ledger
        finally:
            ledger.flush()


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        with connection:
            connection.execute(_SCHEMA)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch the file to a write-ahead log, where it has none yet.

    SQLite does not wait for another process that is switching it at the same moment; it fails at once.
    """
    until = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _new_file_for_damaged(path: Path) -> sqlite3.Connection:
    """Set the damaged file aside under a name of its own and begin a new one."""
    aside = next(
        name
        for number in range(1, 1000)
        if not (name := path.with_name(f"{path.name}.damaged-{number}")).exists()
    )
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    say(f"warning: the ledger {path} is damaged; it is set aside as {aside.name} and filled anew")
    try:
        return _connected(path)
    except sqlite3.DatabaseError as error:
        raise _cause(error, path=path) from error


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _DAMAGED


def _cause(error: sqlite3.DatabaseError, *, path: Path) -> TrainingError:
    code = (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
    remedies = {
        sqlite3.SQLITE_FULL: "its disk is full; free some space and start the same run again: it goes on",
        sqlite3.SQLITE_BUSY: f"another process has held it for {BUSY_SECONDS:g} s; stop that one first",
        sqlite3.SQLITE_CANTOPEN: "it cannot be opened; check that its folder exists and can be written",
        sqlite3.SQLITE_READONLY: "it cannot be written; change its permissions or name another file",
    }
    return TrainingError(f"the ledger {path}: {remedies.get(code, str(error))}")


def _bytes(numbers: "array[int] | array[float]") -> bytes:
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def _checksum(key: bytes, *, value: bytes) -> bytes:
    return hashlib.blake2b(key + value, digest_size=16).digest()
