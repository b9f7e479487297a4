"""What the terminal says while the studio runs: a line when a part crashes, comes back, or gets ready."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

from dpo_studio.processes.environment import StudioEnvironment
from dpo_studio.processes.status import ProcessState, process_states

ENGINE_EVERY_SECONDS = 3


@dataclass
class Watch:
    """Compares the processes with those of the last look. `engine_started` is a time.monotonic() reading."""

    studio: StudioEnvironment
    engine_started: float
    known: dict[str, ProcessState] = field(default_factory=dict)
    down: set[str] = field(default_factory=set)
    engine_state: str = ""
    engine_looked_at: float = 0.0
    was_ready: bool = False

    def look(self) -> None:
        """Print what changed since the last look."""
        for state in process_states(self.studio.supervisor_socket):
            self._compare(state, before=self.known.get(state.name))
            self.known[state.name] = state
        if time.monotonic() - self.engine_looked_at > ENGINE_EVERY_SECONDS:
            self.engine_looked_at = time.monotonic()
            self._look_at_engine()

    def _compare(self, state: ProcessState, *, before: ProcessState | None) -> None:
        if state.state in ("BACKOFF", "EXITED", "FATAL"):
            self._say_down(state)
        elif state.state == "RUNNING" and state.name in self.down:
            self.down.discard(state.name)
            say(f"{state.name} is back")
        elif before is not None and before.pid and state.pid and before.pid != state.pid:
            say(f"{state.name} crashed and was restarted; see {self._log(state.name)}")

    def _say_down(self, state: ProcessState) -> None:
        """A part that keeps failing is announced once."""
        if state.name not in self.down:
            self.down.add(state.name)
            say(f"{state.name} stopped ({cause_of_stop(state)}); trying again; see {self._log(state.name)}")

    def _log(self, name: str) -> str:
        return str(self.studio.log_directory / f"{name}.log")

    def _look_at_engine(self) -> None:
        state, detail = engine_state(self.studio)
        if not state or state == self.engine_state:
            return
        if state == "ready":
            passed = f" after {time.monotonic() - self.engine_started:.0f} s" if not self.was_ready else ""
            say(f"engine ready{passed}")
            self.was_ready = True
        elif state == "failed":
            say(f"engine failed: {detail}")
        self.engine_state = state


def cause_of_stop(state: ProcessState) -> str:
    """Return what is known of the end; of one right after its start, supervisor keeps no exit status."""
    if state.state == "BACKOFF":
        return "right after its start"
    return "by a signal" if state.exit_status == -1 else f"exit status {state.exit_status}"


def engine_state(studio: StudioEnvironment) -> tuple[str, str]:
    """Return the engine's state and detail from /readyz, empty where the web process does not answer."""
    try:
        with urllib.request.urlopen(f"{studio.local_url}/readyz", timeout=2) as answer:
            body = json.load(answer)
    except urllib.error.HTTPError as error:
        body = json.loads(error.read() or b"{}")
    except (OSError, ValueError):
        return "", ""
    engine = body.get("engine", {})
    return str(engine.get("state", "")), str(engine.get("detail", ""))


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
