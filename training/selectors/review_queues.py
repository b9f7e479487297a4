"""What waits for a lead's eye: conflicts, flags, and pairs on which the newest policy contradicts labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count

from annotate.models import Flag, Study
from training.selectors.contradictions import contradicted
from training.selectors.readiness import Readiness
from training.selectors.rounds import RoundRow, RunRow


@dataclass(frozen=True)
class ReviewQueue:
    """One queue: how much waits, and the query that opens it on the review page, or the run to look at."""

    name: str
    count: int
    says: str
    query: str = ""
    round_number: int | None = None
    run_number: int | None = None


def review_queues(
    study: Study, *, rounds: Sequence[RoundRow], readiness: Readiness | None
) -> list[ReviewQueue]:
    """Return the queues that exist in the study's present state: two queries."""
    queues = []
    if readiness is not None:
        number = rounds[0].round.number
        queues.append(
            ReviewQueue(
                "Conflicts",
                readiness.conflicts,
                f"pairs of round {number} on which no verdict leads",
                query=f"kind=conflicts&batch={number}",
            )
        )
    waiting = Flag.objects.filter(pair__study=study, resolved_at=None).aggregate(flags=Count("pk"))["flags"]
    queues.append(ReviewQueue("Flags", waiting, "pairs that annotators flagged", query="kind=flags"))
    if (contradicted := contradictions(rounds)) is not None:
        queues.append(contradicted)
    return queues


def contradictions(rounds: Sequence[RoundRow]) -> ReviewQueue | None:
    """Return how many preferences the newest policy contradicts after training on them."""
    ended = ((row, run) for row in rounds for run in reversed(row.runs) if run.accuracy is not None)
    row, run = next(ended, (None, None))
    if row is None or run is None:
        return None
    found = contradicted(run.run)
    decided = f" (decided already: {found.decided})" if found and found.decided else ""
    return ReviewQueue(
        "Model against labels",
        found.waiting if found else against_labels(run),
        f"preferences of round {row.round.number}'s training set whose rejected response keeps the higher "
        f"implicit reward after training{decided}",
        round_number=row.round.number,
        run_number=run.run.number,
    )


def against_labels(run: RunRow) -> int:
    """Return the count from the run's result; where that is silent, an example on the fence counts too."""
    result = run.run.result or {}
    share = result.get("train_contradicted")
    return round((1 - (run.accuracy or 0.0) if share is None else share) * (result.get("used") or 0))
