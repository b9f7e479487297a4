"""What a lead asked for last: blind pairs of a policy beside the plan's, while they can be taken back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.db.models import QuerySet

from annotate.models import AuditEntry, Pair, Study, User
from training.models import EvaluationPair
from training.selectors.job_rows import in_a_sentence

ASKED, TAKEN_BACK = "evaluation.more", "evaluation.taken_back"


@dataclass(frozen=True)
class AskedPairs:
    """`open_pairs` are those that nobody has judged, skipped or holds; `against` counts them by opponent."""

    policy_number: int
    asked: int
    open_pairs: tuple[int, ...]
    against: tuple[tuple[str, int], ...]


def last_asked(study: Study, *, actor: User) -> AskedPairs | None:
    """Return what this lead asked for last while some of it can be taken back: two queries at most."""
    entries = AuditEntry.objects.filter(study=study, actor=actor, action=ASKED, details__has_key="asked")
    entry = entries.order_by("-pk").first()
    if entry is None:
        return None
    waiting = untouched(entry.details["asked"])
    rows = EvaluationPair.objects.filter(pair__in=waiting).select_related("opponent")
    found = sorted(rows, key=lambda row: row.opponent.number)
    if not found:
        return None
    return AskedPairs(
        policy_number=entry.details["policy"],
        asked=entry.details["pairs"],
        open_pairs=tuple(row.pair_id for row in found if row.pair_id),
        against=tuple(Counter(in_a_sentence(row.opponent) for row in found).items()),
    )


def untouched(pairs: list[int]) -> QuerySet[Pair]:
    """Return those of the open pairs that nobody has judged, skipped or holds."""
    waiting = Pair.objects.filter(pk__in=pairs, state=Pair.State.OPEN)
    return waiting.filter(preferences=None, skips=None, leases=None)
