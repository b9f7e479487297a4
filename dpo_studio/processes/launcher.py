"""Bring the studio up, keep watch in the foreground, and take everything down again."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from dpo_studio.processes.descendants import end_descendants, reap
from dpo_studio.processes.environment import StudioEnvironment
from dpo_studio.processes.programs import EXEC_CHILD, MANAGE, ROOT, programs, supervisor_configuration
from dpo_studio.processes.status import UNREACHABLE, process_states, supervisor
from dpo_studio.processes.watch import Watch
from training.parent_death import adopt_orphans

SUPERVISOR_SECONDS = 10
WEB_SECONDS = 60
STOP_SECONDS = 15


class CannotStart(RuntimeError):
    """The studio cannot come up; the message says why and what to do."""


class StopRequested(BaseException):
    """Ctrl-C, or a signal that asks to stop."""


@dataclass
class Stop:
    """Whether a signal has asked to stop. The signal raises StopRequested wherever the program is."""

    requested: bool = False

    def on_signals(self) -> None:
        def request_stop(number: int, frame: FrameType | None) -> None:
            self.requested = True
            ignore_signals()
            raise StopRequested

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, request_stop)

    def check(self) -> None:
        """Raise StopRequested if it was raised before and got lost, as in the destructor of a file."""
        if self.requested:
            raise StopRequested


def up(studio: StudioEnvironment) -> int:
    """Run the studio until it is asked to stop; return the exit code. Raises CannotStart."""
    for directory in (studio.run_directory, studio.log_directory, studio.valkey_directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with exclusive(studio):
        require_free_port(studio)
        adopt_orphans()
        stop = Stop()
        stop.on_signals()
        try:
            bring_up_and_watch(studio, stop=stop)
        except StopRequested:
            print("\nStopping …", flush=True)
        finally:
            ignore_signals()
            take_down(studio)
    return 0


@contextmanager
def exclusive(studio: StudioEnvironment) -> Iterator[None]:
    """Hold STUDIO_HOME for this process alone; the hold ends with the process, however that ends."""
    with (studio.run_directory / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise CannotStart(
                f"DPO Studio already runs in {studio.home} (process {lock.read().strip() or 'unknown'}). "
                "Stop it with Ctrl-C where it runs, or start another: STUDIO_HOME=other PORT=8001 make run"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def require_free_port(studio: StudioEnvironment) -> None:
    """Raise CannotStart when the web process could not listen where it should."""
    family = socket.AF_INET6 if ":" in studio.bind else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((studio.bind, studio.port))
        except OSError as error:
            raise CannotStart(
                f"Port {studio.port} on {studio.bind} cannot be used ({error.strerror}). Stop what uses "
                f"it, or choose another: PORT={studio.port % 65535 + 1} make run"
            ) from error


def ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def bring_up_and_watch(studio: StudioEnvironment, *, stop: Stop) -> None:
    """Start everything in order and watch it; a supervisor that dies is replaced."""
    process = start_supervisor(studio)
    if not studio.redis_url:
        start(studio, names=["valkey"])
    manage(studio, "migrate", "--no-input")
    logins = manage(studio, "create_demo") if studio.demo else ""
    # The page comes first: on two cores the other programs' imports would hold it up.
    start(studio, names=["web"])
    wait_for_web(studio)
    started = time.monotonic()
    start(studio, names=[program.name for program in programs(studio)])
    watch = Watch(studio=studio, engine_started=started)
    watch.look()
    announce(studio, logins=logins)
    while True:
        time.sleep(1)
        stop.check()
        reap(keep=process.pid)
        if process.poll() is None:
            watch.look()
            continue
        print(f"The supervisor ended ({process.returncode}); starting everything again …", flush=True)
        end_descendants(patience=STOP_SECONDS)
        process = start_supervisor(studio)
        start(studio, names=[program.name for program in programs(studio)])


def environment(studio: StudioEnvironment) -> dict[str, str]:
    """Return the environment of every process: this one's, with the settings spelled out."""
    settings = {
        "STUDIO_HOME": str(studio.home),
        "STUDIO_MODELS": str(studio.models),
        "PORT": str(studio.port),
        "BIND": studio.bind,
        "DEMO": "1" if studio.demo else "0",
        "PYTHONUNBUFFERED": "1",
    }
    return os.environ | settings


def start_supervisor(studio: StudioEnvironment) -> subprocess.Popen[bytes]:
    """Start supervisord with nothing below it yet, in a session of its own, which Ctrl-C does not reach."""
    configuration = studio.run_directory / "supervisord.conf"
    configuration.write_text(supervisor_configuration(studio))
    studio.supervisor_socket.unlink(missing_ok=True)
    program = (sys.executable, "-m", "supervisor.supervisord", "--configuration", str(configuration))
    process = subprocess.Popen(
        [*EXEC_CHILD, "--signal", "TERM", "--", *program],
        cwd=ROOT,
        env=environment(studio),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + SUPERVISOR_SECONDS
    while not process_states(studio.supervisor_socket):
        if process.poll() is not None or time.monotonic() > deadline:
            log = studio.log_directory / "supervisord.log"
            raise CannotStart(f"The process manager did not start.\n{last_lines(log)}\nIts whole log: {log}")
        time.sleep(0.05)
    return process


def start(studio: StudioEnvironment, *, names: list[str]) -> None:
    """Ask supervisord to start what of `names` is not up yet."""
    running = {state.name for state in process_states(studio.supervisor_socket) if state.is_up}
    for name in names:
        if name not in running:
            supervisor(studio.supervisor_socket).startProcess(name, False)


def manage(studio: StudioEnvironment, *arguments: str) -> str:
    """Run one of Django's commands to its end and return what it printed. Raises CannotStart."""
    done = subprocess.run(
        [*MANAGE, *arguments], cwd=ROOT, env=environment(studio), capture_output=True, text=True
    )
    if done.returncode:
        raise CannotStart(
            f"`manage.py {' '.join(arguments)}` failed:\n{(done.stderr or done.stdout).strip()[-3000:]}"
        )
    return done.stdout.rstrip()


def wait_for_web(studio: StudioEnvironment) -> None:
    """Return once the web process answers. Raises CannotStart."""
    deadline = time.monotonic() + WEB_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{studio.local_url}/healthz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    log = studio.log_directory / "web.log"
    raise CannotStart(
        f"The web process did not answer within {WEB_SECONDS} s.\n{last_lines(log)}\nIts whole log: {log}"
    )


def announce(studio: StudioEnvironment, *, logins: str) -> None:
    """Print where to go and how to get in."""
    engine = f"yours, at {studio.vllm_urls}" if studio.vllm_urls else "starting; it takes about a minute"
    print(f"\nDPO Studio is up\n\n  address   {studio.local_url}", flush=True)
    if logins:
        print("  log in    " + logins.replace("\n", "\n            "))
    print(f"  engine    {engine}\n  logs      {studio.log_directory}\n  stop      Ctrl-C\n", flush=True)


def take_down(studio: StudioEnvironment) -> None:
    """Stop every process, the queue last, and leave none behind."""
    stop_programs(studio)
    end_descendants(patience=5)


def stop_programs(studio: StudioEnvironment) -> None:
    """Have supervisord stop everything but the queue, all at once, and wait until it is done."""
    try:
        server = supervisor(studio.supervisor_socket)
        for state in process_states(studio.supervisor_socket):
            if state.is_up and state.name != "valkey":
                server.stopProcess(state.name, False)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            states = process_states(studio.supervisor_socket)
            if not any(state.pid for state in states if state.name != "valkey"):
                return
            time.sleep(0.1)
    except UNREACHABLE:
        return


def last_lines(log: Path, *, count: int = 15) -> str:
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-count:])
    except OSError:
        return ""
