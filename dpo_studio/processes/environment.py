"""What the operator may set, read once and checked: the environment variables of `make run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LONGEST_SOCKET_PATH = 100


class UnusableEnvironment(ValueError):
    """An environment variable has a value that cannot work; the message names it and the remedy."""


@dataclass(frozen=True)
class StudioEnvironment:
    """The settings that decide which processes run and where they keep what they make."""

    home: Path
    models: Path
    bind: str
    port: int
    redis_url: str
    vllm_urls: str
    demo: bool

    @staticmethod
    def read(environ: Mapping[str, str]) -> StudioEnvironment:
        """Return the settings found in `environ`, or raise UnusableEnvironment."""
        home = Path(environ.get("STUDIO_HOME") or "var").expanduser().resolve()
        studio = StudioEnvironment(
            home=home,
            models=Path(environ.get("STUDIO_MODELS") or home / "models").expanduser().resolve(),
            bind=environ.get("BIND") or "127.0.0.1",
            port=_port(environ.get("PORT") or "8000"),
            redis_url=environ.get("REDIS_URL", ""),
            vllm_urls=environ.get("VLLM_URLS", ""),
            demo=_switch("DEMO", environ.get("DEMO") or "1"),
        )
        _check_socket_length(studio.supervisor_socket)
        return studio

    @property
    def run_directory(self) -> Path:
        return self.home / "run"

    @property
    def log_directory(self) -> Path:
        return self.home / "log"

    @property
    def supervisor_socket(self) -> Path:
        return self.run_directory / "supervisor.sock"

    @property
    def valkey_socket(self) -> Path:
        return self.run_directory / "valkey.sock"

    @property
    def valkey_directory(self) -> Path:
        return self.home / "valkey"

    @property
    def bind_address(self) -> str:
        """What the web process listens on, as host:port."""
        return f"[{self.bind}]:{self.port}" if ":" in self.bind else f"{self.bind}:{self.port}"

    @property
    def local_url(self) -> str:
        """The address under which this machine reaches the web process."""
        host = "127.0.0.1" if self.bind in ("0.0.0.0", "::", "") else self.bind
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise UnusableEnvironment(f"PORT = {text!r} must be a number from 1 to 65535; 8000 is the default.")
    return int(text)


def _switch(name: str, text: str) -> bool:
    values = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if text.lower() not in values:
        raise UnusableEnvironment(f"{name} = {text!r} must be 1 or 0.")
    return values[text.lower()]


def _check_socket_length(socket: Path) -> None:
    """The kernel limits a UNIX socket's path to 107 bytes; supervisor appends its pid while binding."""
    if len(str(socket).encode()) > LONGEST_SOCKET_PATH - 8:
        raise UnusableEnvironment(
            f"STUDIO_HOME = {socket.parent.parent} is too long a path for the sockets inside it; choose one "
            f"of at most {LONGEST_SOCKET_PATH - 8 - len('/run/supervisor.sock')} characters."
        )
