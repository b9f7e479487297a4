"""The product's own processes: real supervisord, Valkey, gunicorn and RQ workers."""

import os
import signal
import socket
from pathlib import Path

import pytest

from dpo_studio.processes.status import restart_process
from tests.support.studio import RunningStudio, alive, start_studio, wait_until

pytestmark = pytest.mark.slow

PARTS = {"valkey", "web", "worker-sampling", "worker-training", "reconcile"}


def test_every_part_runs_and_the_page_answers(studio: RunningStudio) -> None:
    wait_until(studio.answers, seconds=30, what="an answer")
    wait_until(
        lambda: {name for name, state in studio.states().items() if state.state == "RUNNING"} == PARTS,
        seconds=30,
        what="start of every part",
    )
    assert studio.url in studio.printed
    assert str(studio.home / "log") in studio.printed


def test_ctrl_c_leaves_no_process(studio: RunningStudio) -> None:
    wait_until(lambda: studio.states().keys() == PARTS, seconds=30, what="start of every part")
    started = studio.processes()
    assert len(started) > len(PARTS)
    assert studio.stop() == 0
    assert alive(started) == []


def test_killed_web_process_comes_back_and_the_terminal_says_so(studio: RunningStudio) -> None:
    killed = studio.states()["web"].pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: studio.states()["web"].pid not in (None, killed), seconds=15, what="restart of web")
    wait_until(studio.answers, seconds=30, what="an answer of web")
    # Which of the two lines depends on whether the watch looked while it was down or afterwards.
    lines = ("web crashed and was restarted", "web stopped")
    wait_until(lambda: any(line in studio.printed for line in lines), seconds=10, what="the line about web")
    assert studio.states()["web"].ended_at is not None


def test_killed_supervisor_is_replaced_with_everything_below_it(studio: RunningStudio) -> None:
    supervisor = int((studio.home / "run" / "supervisord.pid").read_text())
    started = studio.processes()
    os.kill(supervisor, signal.SIGKILL)
    wait_until(lambda: alive(started) == [studio.process.pid], seconds=30, what="end of the old processes")
    wait_until(lambda: studio.states().keys() == PARTS and studio.answers(), seconds=60, what="new start")
    assert "The supervisor ended (-9)" in studio.printed


def test_killed_launcher_takes_everything_with_it(studio: RunningStudio) -> None:
    started = studio.processes()
    studio.process.kill()
    studio.process.wait()
    wait_until(lambda: alive(started) == [], seconds=45, what="end of every process")


def test_part_can_be_restarted_by_name(studio: RunningStudio) -> None:
    old = studio.states()["reconcile"].pid
    restart_process("reconcile", socket_path=studio.home / "run" / "supervisor.sock")
    wait_until(lambda: studio.states()["reconcile"].pid not in (None, old), seconds=20, what="a new process")


def test_second_start_in_the_same_home_is_refused_with_the_remedy(studio: RunningStudio) -> None:
    second = start_studio(studio.home / "second", STUDIO_HOME=str(studio.home))
    assert second.process.wait(timeout=30) == 1
    assert f"DPO Studio already runs in {studio.home} (process {studio.process.pid})" in second.printed
    assert "STUDIO_HOME=other" in second.printed
    wait_until(studio.answers, seconds=30, what="an answer of the first")


def test_port_in_use_is_named_with_the_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = start_studio(tmp_path, port=port)
        assert refused.process.wait(timeout=30) == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in refused.printed
    assert f"PORT={port + 1} make run" in refused.printed
    assert not (tmp_path / "run" / "supervisor.sock").exists()


def test_failing_migration_is_shown_and_leaves_no_process(tmp_path: Path) -> None:
    refused = start_studio(tmp_path, DATABASE_URL="sqlite:////nonexistent/folder/db.sqlite3")
    assert refused.process.wait(timeout=60) == 1
    assert "`manage.py migrate --no-input` failed" in refused.printed
    assert "unable to open database file" in refused.printed
    assert not (tmp_path / "run" / "valkey.sock").exists()
