"""Real RQ workers on the test's own database, queue and home."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.db import connection

from training.services.processes import start_time

REPOSITORY = Path(__file__).resolve().parents[2]


@contextmanager
def worker(queue: str, *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker as `make run` does; killed at the end if it still lives."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "rqworker", queue, "--serializer", "rq.serializers.JSONSerializer"],
            cwd=REPOSITORY,
            env={**os.environ, **environment()},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def environment() -> dict[str, str]:
    """Return what points a process at what this test uses."""
    return {
        "DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}",
        "REDIS_URL": settings.REDIS_URL,
        "STUDIO_HOME": str(settings.STUDIO_HOME),
        "VLLM_URLS": ",".join(settings.VLLM_URLS),
        "SAMPLING_CONCURRENCY": str(settings.SAMPLING_CONCURRENCY),
        "SECRET_KEY": settings.SECRET_KEY,
    }


def wait_until(holds: Callable[[], bool], *, seconds: float, what: str) -> None:
    """Wait for something that another process does; fails with `what` when it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    """Return the direct children of a process that still run."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(child) for child in text.split() if start_time(int(child))]
