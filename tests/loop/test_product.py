"""The unattended loop touches nothing but its own scratch folder and talks to nobody else's server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dpo_studio.loop.product import LoopFailed, check_port, keep_home, prepare_scratch_home


def test_a_later_loop_empties_the_scratch_home_of_an_earlier_one(tmp_path: Path) -> None:
    home = tmp_path / "loop"
    prepare_scratch_home(home)
    (home / "studio.sqlite3").touch()

    prepare_scratch_home(home)

    assert [path.name for path in home.iterdir()] == ["loop-scratch"]


def test_a_home_that_was_kept_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    home = tmp_path / "loop"
    prepare_scratch_home(home)
    (home / "studio.sqlite3").touch()
    keep_home(home)

    with pytest.raises(LoopFailed, match="name an empty folder"):
        prepare_scratch_home(home)

    assert (home / "studio.sqlite3").exists()


def test_a_port_with_another_server_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LoopFailed, match=f"port = {port} is taken"):
            check_port(port)
