"""Keep one vLLM server running on the base model that is needed, and say at every moment how it fares."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

import httpx

from training.serving.client import EngineClient, SamplingSettings
from training.serving.command import Device, installed_device, served_name, server_command
from training.serving.errors import EngineError
from training.serving.output import Output

TICK_SECONDS = 1.0
HEARTBEAT_SECONDS = 5.0
START_SECONDS = 900.0
PROBE_EVERY_SECONDS = 30.0
STALL_SECONDS = 120.0
STOP_SECONDS = 6.0
LONGEST_BACK_OFF = 60.0
PROBE_TIMEOUT = httpx.Timeout(90, connect=5)
QUESTION = ({"role": "user", "content": "Hello"},)


class Status(StrEnum):
    """What a server is doing. FAILED: it ended or hung, and is tried again after a pause."""

    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True)
class EngineState:
    """One server at one moment. `since`: when `state` began; `detail`: a sentence, or vLLM's last error."""

    state: Status
    base_model: str
    served_name: str
    url: str
    pid: int | None
    since: datetime
    detail: str


class EngineManager:
    """Starts, warms, watches, moves and restarts one vLLM server.

    desired_base: asked every second; the folder or hub id that is needed, None for no server (this is how a
    GPU is handed to training). report: told every change at once, and the same state again every five
    seconds, so that its age shows whether this manager lives. It must be used from a process's main thread:
    the server dies with it.
    """

    def __init__(
        self,
        *,
        desired_base: Callable[[], str | None],
        report: Callable[[EngineState], None],
        host: str = "127.0.0.1",
        port: int | None = None,
        device: Device | None = None,
    ) -> None:
        self._desired_base = desired_base
        self._report = report
        self._host, self._port = host, port or free_port(host)
        self._device: Device = device or installed_device()
        self._server: Server | None = None
        self._failures, self._not_before = 0, 0.0
        self._reported_at = 0.0
        self._state = EngineState(
            Status.STOPPED,
            base_model="",
            served_name="",
            url=self.url,
            pid=None,
            since=now(),
            detail="Not needed yet.",
        )

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def run(self, *, stopping: Callable[[], bool]) -> None:
        """Keep the server as it should be until `stopping` returns true, then stop it."""
        try:
            while not stopping():
                self.tick()
                time.sleep(TICK_SECONDS)
        finally:
            self._stop(detail="The engine was stopped.")

    def tick(self) -> None:
        """Take the next step towards the server that is needed; returns within a probe's time."""
        base = self._desired_base()
        if self._server is not None and self._server.base_model != base:
            self._stop(detail="Another base model is needed." if base else "Not needed now.")
            self._failures, self._not_before = 0, 0.0
        if base is not None and self._server is None and time.monotonic() >= self._not_before:
            self._start(base)
        elif self._server is not None:
            self._look_after(self._server)
        self._heartbeat()

    def _start(self, base: str) -> None:
        self._server = Server(base, host=self._host, port=self._port, device=self._device)
        self._say(Status.STARTING, detail=f"Starting vLLM on {served_name(base)}.")

    def _look_after(self, server: Server) -> None:
        trouble = server.trouble()
        if trouble:
            self._fail(trouble)
        elif self._state.state == Status.STARTING and server.answers():
            self._say(Status.WARMING, detail="The first token takes some seconds more.")
        elif self._state.state == Status.WARMING:
            self._warm_up(server)

    def _warm_up(self, server: Server) -> None:
        try:
            server.generate_one_token()
        except EngineError as error:
            self._fail(server.trouble() or str(error))
            return
        self._failures = 0
        self._say(Status.READY, detail=f"Ready on {served_name(server.base_model)}.")

    def _fail(self, trouble: str) -> None:
        base = self._server.base_model if self._server else ""
        self._end_server()
        self._failures += 1
        pause = min(2.0**self._failures, LONGEST_BACK_OFF)
        self._not_before = time.monotonic() + pause
        self._say(Status.FAILED, base=base, detail=f"{trouble} (trying again in {pause:.0f} s)")

    def _stop(self, *, detail: str) -> None:
        self._end_server()
        self._say(Status.STOPPED, detail=detail)

    def _end_server(self) -> None:
        if self._server is not None:
            self._server.end()
            self._server = None

    def _say(self, state: Status, *, detail: str, base: str | None = None) -> None:
        base_model = base if base is not None else self._server.base_model if self._server else ""
        self._state = EngineState(
            state=state,
            base_model=base_model,
            served_name=served_name(base_model) if base_model else "",
            url=self.url,
            pid=self._server.pid if self._server else None,
            since=now(),
            detail=detail,
        )
        self._tell()

    def _heartbeat(self) -> None:
        if time.monotonic() - self._reported_at >= HEARTBEAT_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._reported_at = time.monotonic()
        self._report(replace(self._state))


class Server:
    """One vLLM process group, from its start to its end."""

    def __init__(self, base_model: str, *, host: str, port: int, device: Device) -> None:
        self.base_model = base_model
        self.url = f"http://{host}:{port}"
        command = server_command(base_model, host=host, port=port, device=device)
        self._process = subprocess.Popen(
            command.arguments,
            env=command.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._output = Output(self._process.stdout)
        self._started = self._probed = self._moved = time.monotonic()
        self._ready = False
        self._tokens = 0.0

    @property
    def pid(self) -> int:
        return self._process.pid

    def answers(self) -> bool:
        """Return whether the HTTP side is up."""
        return asyncio.run(self._answers())

    def generate_one_token(self) -> None:
        """Have the engine generate a token, the only proof that it can. Raises EngineError."""
        asyncio.run(self._generate())
        self._ready = True
        self._probed = self._moved = time.monotonic()

    def trouble(self) -> str:
        """Return why the server cannot be used any more, or an empty string."""
        code = self._process.poll()
        if code is not None:
            return f"vLLM ended with {describe_exit(code)}. {self._output.last_error()}".strip()
        if not self._ready:
            too_long = time.monotonic() - self._started > START_SECONDS
            return f"vLLM was not up after {START_SECONDS:.0f} s." if too_long else ""
        if time.monotonic() - self._probed < PROBE_EVERY_SECONDS:
            return ""
        return self._probe()

    def end(self) -> None:
        """Stop the whole process group, by force where it does not obey."""
        signal_group(self.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=STOP_SECONDS)
        # Engine and workers may outlive the server that started them.
        signal_group(self.pid, signal.SIGKILL)
        self._process.wait()
        self._output.close()

    def _probe(self) -> str:
        """A busy engine lives if its tokens move, an idle one if it generates one."""
        self._probed = time.monotonic()
        try:
            busy, tokens = asyncio.run(self._progress())
            if not busy:
                self.generate_one_token()
            elif tokens != self._tokens:
                self._tokens, self._moved = tokens, time.monotonic()
        except EngineError as error:
            return str(error)
        stalled = time.monotonic() - self._moved
        return (
            f"vLLM has made no token for {stalled:.0f} s, though requests wait."
            if stalled > STALL_SECONDS
            else ""
        )

    async def _answers(self) -> bool:
        async with EngineClient(self.url, timeout=httpx.Timeout(2)) as client:
            return await client.answers()

    async def _generate(self) -> None:
        async with EngineClient(self.url, timeout=PROBE_TIMEOUT) as client:
            settings = SamplingSettings(max_tokens=1)
            await client.sample(QUESTION, model=served_name(self.base_model), settings=settings)

    async def _progress(self) -> tuple[bool, float]:
        async with EngineClient(self.url, timeout=httpx.Timeout(30)) as client:
            figures = await client.metrics()
        waiting = figures.get("vllm:num_requests_running", 0) + figures.get("vllm:num_requests_waiting", 0)
        tokens = figures.get("vllm:generation_tokens_total", 0) + figures.get("vllm:prompt_tokens_total", 0)
        return waiting > 0, tokens


def signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)


def describe_exit(code: int) -> str:
    return f"exit status {code}" if code >= 0 else signal.Signals(-code).name


def free_port(host: str) -> int:
    """Return a port that nothing listens on now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def now() -> datetime:
    return datetime.now(tz=UTC)
