"""One real vLLM server for all tests of a session that ask for it: `live_engine`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dpo_studio.processes.demo_model import demo_model_path, make_demo_model
from dpo_studio.processes.programs import ROOT
from training.serving.client import EngineClient
from training.serving.command import installed_device, served_name
from training.serving.manager import Server, free_port

READY_SECONDS = 300


@dataclass(frozen=True)
class LiveEngine:
    """A warm vLLM server with the demo model as its base."""

    url: str
    base_model: str
    served_name: str

    def client(self) -> EngineClient:
        return EngineClient(self.url)


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The demo model's folder, made where `make run` makes it unless STUDIO_MODELS says otherwise."""
    models = Path(os.environ.get("STUDIO_MODELS") or ROOT / "var" / "models")
    make_demo_model(models)
    return demo_model_path(models).resolve()


@pytest.fixture(scope="session")
def live_engine(demo_model: Path) -> Iterator[LiveEngine]:
    """A real vLLM server, started on first use and stopped at the end of the session."""
    host, port = "127.0.0.1", free_port("127.0.0.1")
    server = Server(str(demo_model), host=host, port=port, device=installed_device())
    try:
        wait_until_ready(server)
        yield LiveEngine(server.url, base_model=str(demo_model), served_name=served_name(str(demo_model)))
    finally:
        server.end()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not server.answers():
        trouble = server.trouble()
        assert not trouble, trouble
        assert time.monotonic() < deadline, f"vLLM was not up after {READY_SECONDS} s"
        time.sleep(0.5)
    server.generate_one_token()
