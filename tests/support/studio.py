"""The whole product, started by its own launcher in a folder of its own, for tests of real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from dpo_studio.processes.descendants import descendants
from dpo_studio.processes.programs import ROOT
from dpo_studio.processes.status import ProcessState, process_states
from training.serving.manager import free_port

UP_SECONDS = 90
# Nothing listens there: an engine of one's own that is away, so that none is started.
NO_ENGINE = "http://127.0.0.1:9"


@dataclass
class RunningStudio:
    """`python -m dpo_studio.processes up`, in the foreground of a session of its own."""

    home: Path
    port: int
    process: subprocess.Popen[bytes]
    terminal: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def printed(self) -> str:
        return self.terminal.read_text()

    def states(self) -> dict[str, ProcessState]:
        return {state.name: state for state in process_states(self.home / "run" / "supervisor.sock")}

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=60)

    def processes(self) -> list[int]:
        """Return every process that belongs to this studio now, the launcher among them."""
        return [self.process.pid, *descendants(of=self.process.pid)]


def start_studio(home: Path, *, port: int | None = None, **settings: str) -> RunningStudio:
    """Start the product in `home` without waiting; `settings` are environment variables."""
    home.mkdir(parents=True, exist_ok=True)
    port = port or free_port("127.0.0.1")
    defaults = {"STUDIO_HOME": str(home), "PORT": str(port), "DEMO": "0", "VLLM_URLS": NO_ENGINE}
    terminal = home / "terminal.txt"
    with terminal.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dpo_studio.processes", "up"],
            cwd=ROOT,
            env=os.environ | defaults | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return RunningStudio(home=home, port=port, process=process, terminal=terminal)


def wait_until(happened: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Return once `happened` is true; fail with `what` when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.1)


def alive(pids: Iterable[int]) -> list[int]:
    """Return those of `pids` that still run."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
