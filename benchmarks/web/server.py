"""The product's own web server, on loopback, in a folder of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.web.study import BenchmarkStudy
from dpo_studio.processes.descendants import descendants
from dpo_studio.processes.environment import StudioEnvironment
from dpo_studio.processes.programs import ROOT, programs
from training.serving.manager import free_port

START_SECONDS = 300
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
NO_ENGINE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class WebServer:
    """A running server and its workers."""

    port: int
    process_id: int

    def cpu_seconds(self) -> float:
        """Return the processor time of the server and its workers so far."""
        return sum(_cpu_seconds(pid) for pid in (self.process_id, *descendants(of=self.process_id)))


@contextmanager
def web_server(home: Path, *, database_url: str = "") -> Iterator[WebServer]:
    """Run gunicorn as `make run` does."""
    port = free_port("127.0.0.1")
    environment = settings_of(home, database_url=database_url) | {"PORT": str(port)}
    command = web_command(environment)
    log = home / "web.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        _wait_for(port, process=process, log=log)
        yield WebServer(port=port, process_id=process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def web_command(environment: dict[str, str]) -> tuple[str, ...]:
    """Return the command by which `make run` starts the web server."""
    return next(p.command for p in programs(StudioEnvironment.read(environment)) if p.name == "web")


def settings_of(home: Path, *, database_url: str = "") -> dict[str, str]:
    """Return the environment of a studio that lives in `home`."""
    settings = {
        "STUDIO_HOME": str(home),
        "VLLM_URLS": NO_ENGINE,
        "REDIS_URL": "redis://127.0.0.1:9",
        "DEMO": "0",
    }
    return os.environ | settings | ({"DATABASE_URL": database_url} if database_url else {})


def prepare_database(home: Path, *, database_url: str = "") -> None:
    """Make the tables."""
    home.mkdir(parents=True, exist_ok=True)
    _python(["manage.py", "migrate", "-v0"], home=home, database_url=database_url)


def prepare_study(home: Path, *, database_url: str = "", **options: float) -> BenchmarkStudy:
    """Make a study in a process of its own; `options` are those of `benchmarks.web.study`."""
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    printed = _python(["-m", "benchmarks.web.study", *arguments], home=home, database_url=database_url)
    return BenchmarkStudy.from_json(printed.splitlines()[-1])


def count_queries(home: Path) -> int:
    """Return how many statements one label takes, counted in the middle of a small study."""
    study = prepare_study(home, pairs=50, annotators=1, repeats=0)
    return int(_python(["-m", "benchmarks.web.queries", study.slug], home=home, database_url=""))


def _python(arguments: list[str], *, home: Path, database_url: str) -> str:
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=settings_of(home, database_url=database_url),
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {run.stderr[-2000:]}")
    return run.stdout


def _cpu_seconds(process_id: int) -> float:
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def _wait_for(port: int, *, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise RuntimeError(f"the web server did not answer within {START_SECONDS} s: {log.read_text()[-2000:]}")
