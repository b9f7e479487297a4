from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.studio import UP_SECONDS, RunningStudio, start_studio, wait_until


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[RunningStudio]:
    """The product without engine and demo, up and answering; nothing of it is left after the test."""
    running = start_studio(tmp_path)
    try:
        wait_until(
            lambda: "stop      Ctrl-C" in running.printed, seconds=UP_SECONDS, what=f"start of {running}"
        )
        yield running
    finally:
        if running.process.poll() is None:
            running.stop()
