"""What the database of a running studio holds, read from beside it: on SQLite or PostgreSQL."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.web.study import BenchmarkStudy

FREE = """
SELECT pair.id, pair.slots_taken, pair.order_key FROM annotate_pair pair
WHERE pair.study_id = {study} AND pair.state = 'open' AND pair.slots_taken < pair.labels_wanted
AND pair.reserved_for_id IS NULL
"""
NOT_THEIRS = "".join(
    f" AND NOT EXISTS (SELECT 1 FROM annotate_{table} mine"
    " WHERE mine.pair_id = pair.id AND mine.annotator_id = {annotator})"
    for table in ("preference", "lease", "skip")
)
LABELS = """
SELECT label.annotator_id, label.pair_id, label.client_id FROM annotate_preference label
JOIN annotate_pair pair ON pair.id = label.pair_id WHERE pair.study_id = {study}
"""
TAKEN_BACK = """
SELECT revision.annotator_id, revision.pair_id FROM annotate_preferencerevision revision
JOIN annotate_pair pair ON pair.id = revision.pair_id
WHERE pair.study_id = {study} AND revision.action = 'undone'
"""
SLOTS = """
SELECT pair.id, pair.slots_taken,
    (SELECT COUNT(*) FROM annotate_preference label WHERE label.pair_id = pair.id),
    (SELECT COUNT(DISTINCT label.annotator_id) FROM annotate_preference label WHERE label.pair_id = pair.id),
    (SELECT COUNT(*) FROM annotate_lease lease WHERE lease.pair_id = pair.id)
FROM annotate_pair pair WHERE pair.study_id = {study}
"""
PROGRESS = """
SELECT progress.annotator_id, progress.labels, COUNT(pair.id) FROM annotate_annotatorprogress progress
LEFT JOIN annotate_preference label ON label.annotator_id = progress.annotator_id
LEFT JOIN annotate_pair pair ON pair.id = label.pair_id AND pair.study_id = progress.study_id
WHERE progress.study_id = {study} GROUP BY progress.annotator_id, progress.labels
"""
OPEN_PAIRS = """
SELECT COUNT(*) FROM annotate_pair pair WHERE pair.study_id = {study}
AND (SELECT COUNT(*) FROM annotate_preference label WHERE label.pair_id = pair.id) < pair.labels_wanted
"""


class Ledger:
    """Reads the study's rows; writes nothing."""

    def __init__(self, study: BenchmarkStudy, *, home: Path, database_url: str) -> None:
        self._study = study.study_id
        self._connection: Any = (
            psycopg.connect(database_url, autocommit=True)
            if database_url
            else sqlite3.connect(home / "studio.sqlite3", isolation_level=None, timeout=20)
        )

    def claimable(self, annotator: int) -> set[tuple[int, int, float]]:
        """Return the pairs that are this annotator's to take, by the rule in full."""
        return set(self._rows(FREE + NOT_THEIRS, annotator=annotator))

    def is_complete(self) -> bool:
        """Return whether each pair has all the labels it wants."""
        return self._rows(OPEN_PAIRS) == [(0,)]

    def labels(self) -> dict[tuple[int, int], str]:
        """Return (annotator, pair) → client id of every label."""
        return {(a, p): str(uuid.UUID(str(client_id))) for a, p, client_id in self._rows(LABELS)}

    def differences(
        self,
        *,
        kept: dict[tuple[int, int], str],
        taken_back: Counter[tuple[int, int]],
        sent: set[str],
        unsure: set[str],
    ) -> list[str]:
        """Return what does not add up between the rows and what people were told, in sentences.

        `kept` and `taken_back` are by (annotator, pair); a label of `unsure` may be there or not.
        """
        labels = self.labels()
        found = [f"label {key} got a 2xx and is not there" for key in kept if labels.get(key) != kept[key]]
        for key, client_id in labels.items():
            if client_id not in sent:
                found.append(f"label {key} was never sent")
            elif key not in kept and client_id not in unsure:
                found.append(f"label {key} is there and was taken back")
        undone = Counter((annotator, pair) for annotator, pair in self._rows(TAKEN_BACK))
        found += [
            f"label {key} was taken back {undone[key]} times, and its annotator was told of {taken_back[key]}"
            for key in undone | taken_back
            if undone[key] != taken_back[key]
        ]
        for pair, slots, count, people, leases in self._rows(SLOTS):
            if (count, people) != (2, 2):
                found.append(f"pair {pair} has {count} labels of {people} people")
            if slots != count + leases:
                found.append(f"pair {pair} has {slots} slots taken, {count} labels and {leases} leases")
        found += [
            f"annotator {annotator} is shown {told} labels and has {count}"
            for annotator, told, count in self._rows(PROGRESS)
            if told != count
        ]
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _rows(self, statement: str, **values: int) -> list[Any]:
        rows: list[Any] = self._connection.execute(statement.format(study=self._study, **values)).fetchall()
        return rows
