"""The product, started in a scratch home as `make run` starts it, and stopped again."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 240
STOP_SECONDS = 40
SCRATCH_MARKER = "loop-scratch"


class LoopFailed(Exception):
    """The unattended loop cannot go on; the message says why."""


@contextmanager
def running_product(*, home: Path, port: int) -> Iterator[None]:
    """Start every process in an emptied `home` on 127.0.0.1:`port`; stop them all at the end.

    Raises LoopFailed when `home` is not a scratch folder of an earlier loop or the web does not answer.
    """
    prepare_scratch_home(home)
    with started_product(home=home, port=port):
        yield


@contextmanager
def started_product(*, home: Path, port: int) -> Iterator[None]:
    """Start every process in `home` as it is. Raises LoopFailed when the web does not answer."""
    check_port(port)
    with (home / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dpo_studio.processes", "up"],
            env={**os.environ, **environment(home=home, port=port)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            wait_for_web(process=process, port=port, log=home / "up.log")
            yield
        finally:
            stop(process)


def environment(*, home: Path, port: int) -> dict[str, str]:
    """Return the variables that make a scratch product beside the usual one, sharing its models."""
    models = Path(os.environ.get("STUDIO_MODELS") or "var/models").resolve()
    return {"STUDIO_HOME": str(home), "STUDIO_MODELS": str(models), "PORT": str(port), "DEMO": "1"}


def prepare_scratch_home(home: Path) -> None:
    """Empty `home` if an earlier loop made it; refuse a folder that holds anything else."""
    marker = home / SCRATCH_MARKER
    if home.exists() and any(home.iterdir()):
        if not marker.exists():
            raise LoopFailed(
                f"{home} holds a loop that was kept, or something else; name an empty folder with --home."
            )
        shutil.rmtree(home)
    home.mkdir(parents=True, exist_ok=True)
    marker.touch()


def check_port(port: int) -> None:
    """Raise LoopFailed when something listens there already: it would be taken for the product."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LoopFailed(f"port = {port} is taken ({error}); name another one with PORT.") from error


def keep_home(home: Path) -> None:
    """Let no later loop empty `home`."""
    (home / SCRATCH_MARKER).unlink(missing_ok=True)


def wait_for_web(*, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise LoopFailed(
                f"the processes did not start (exit {process.returncode}):\n{log.read_text()[-2000:]}"
            )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise LoopFailed(f"http://127.0.0.1:{port}/healthz did not answer within {START_SECONDS} s; see {log}")


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
