"""Labels counted by annotator and day, in the database or from where they are kept."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, Count, Q, QuerySet
from django.db.models.functions import Cast, Substr

from annotate.models import FrozenVotes, Preference, Verdict

NAMES = ("labels", "tie", "both_bad", "left")


@dataclass(frozen=True)
class DayLabels:
    """One annotator's labels of one day (UTC): how many, of them ties, both bad, picks of the left."""

    annotator_id: int
    day: str
    labels: int
    tie: int
    both_bad: int
    left: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        return self.labels, self.tie, self.both_bad, self.left


def labels_by_day(votes: QuerySet[Preference]) -> list[DayLabels]:
    """Count votes in one pass: one query.

    The day is cut from the stored text: a date function would call Python for every row on SQLite.
    """
    by_day = votes.order_by().annotate(day=Substr(Cast("created_at", CharField()), 1, 10))
    rows: Iterable[Any] = (
        by_day.values("annotator", "day").annotate(**verdict_counts()).values_list("annotator", "day", *NAMES)
    )
    return [DayLabels(*row) for row in rows]


def kept_labels_by_day(kept: Iterable[FrozenVotes]) -> list[DayLabels]:
    """Return the counts that are kept of frozen deliveries."""
    return [DayLabels(*row) for delivery in kept for row in delivery.counts["days"]]


def verdict_counts() -> dict[str, Count]:
    """Return the aggregates named in NAMES."""
    left = Q(verdict="a", shown_left="a") | Q(verdict="b", shown_left="b")
    return {
        "labels": Count("pk"),
        "tie": Count("pk", filter=Q(verdict=Verdict.TIE)),
        "both_bad": Count("pk", filter=Q(verdict=Verdict.BOTH_BAD)),
        "left": Count("pk", filter=left),
    }
