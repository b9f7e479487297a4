"""What supervisord says about the studio's processes; light enough for every page."""

from __future__ import annotations

import http.client
import socket
import xmlrpc.client
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 1.0
UNREACHABLE = (OSError, http.client.HTTPException, xmlrpc.client.ProtocolError)


@dataclass(frozen=True)
class ProcessState:
    """One process as supervisord sees it.

    state: STOPPED, STARTING, RUNNING, BACKOFF (ended soon after its start, will be tried again), STOPPING,
    EXITED or FATAL
    (given up). since: start of a running process, end of one that is not. ended_at: when it last ended, if
    ever (a running process that has one was restarted). exit_status: of a process that is down; -1 when a
    signal ended it.
    """

    name: str
    state: str
    pid: int | None
    since: datetime | None
    ended_at: datetime | None
    exit_status: int | None
    description: str

    @property
    def is_up(self) -> bool:
        return self.state in ("RUNNING", "STARTING")


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.sock.connect(self._path)


class _SocketTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        return _SocketConnection(self._path)


def supervisor(socket_path: Path) -> Any:
    """Return supervisord's XML-RPC interface on its UNIX socket."""
    proxy = xmlrpc.client.ServerProxy("http://localhost/RPC2", transport=_SocketTransport(str(socket_path)))
    return proxy.supervisor


def process_states(socket_path: Path) -> list[ProcessState]:
    """Return the state of every process, or an empty list when no supervisord answers within a second."""
    try:
        rows = supervisor(socket_path).getAllProcessInfo()
    except UNREACHABLE:
        return []
    return [_state(row) for row in rows]


def restart_process(name: str, *, socket_path: Path) -> None:
    """Start `name` again, stopping it first if it runs.

    Returns before it is up. Raises OSError when no supervisord answers, xmlrpc.client.Fault for an unknown
    name.
    """
    server = supervisor(socket_path)
    if next((state.is_up for state in process_states(socket_path) if state.name == name), False):
        # supervisord starts again by itself what ends without having been stopped.
        server.signalProcess(name, "TERM")
    else:
        server.startProcess(name, False)


def _state(row: dict[str, Any]) -> ProcessState:
    running = row["statename"] in ("RUNNING", "STARTING", "STOPPING")
    ended = _time(row["stop"])
    return ProcessState(
        name=row["name"],
        state=row["statename"],
        pid=row["pid"] or None,
        since=_time(row["start"]) if running else ended,
        ended_at=ended,
        exit_status=row["exitstatus"] if ended and not running else None,
        description=row["spawnerr"] or row["description"],
    )


def _time(seconds: int) -> datetime | None:
    return datetime.fromtimestamp(seconds, tz=UTC) if seconds else None
