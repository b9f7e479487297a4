"""Gold and practice pairs as leads see them."""

from dataclasses import dataclass

from django.db.models import Count, F, Q

from annotate.models import KnownAnswer, Pair, Study


@dataclass(frozen=True)
class KnownPair:
    """A template with how many people have judged it, and how many as expected."""

    pair: Pair
    answer: KnownAnswer
    judged: int
    as_expected: int

    @property
    def is_used(self) -> bool:
        return self.pair.state == Pair.State.OPEN


def known_pairs(study: Study, *, purpose: Pair.Purpose) -> list[KnownPair]:
    """Return the study's templates of one purpose, those in use first, in the order people get them."""
    right = Q(repeats__preferences__verdict=F("known_answer__verdict"), repeats__purpose=purpose)
    pairs = (
        Pair.objects.filter(
            study=study, purpose=purpose, reserved_for__isnull=True, known_answer__isnull=False
        )
        .select_related("prompt", "response_a", "response_b", "known_answer")
        .annotate(
            judged=Count("repeats__preferences", filter=Q(repeats__purpose=purpose)),
            as_expected=Count("repeats__preferences", filter=right),
        )
        .order_by("order_key", "pk")
    )
    rows = [
        KnownPair(pair=pair, answer=pair.known_answer, judged=pair.judged, as_expected=pair.as_expected)
        for pair in pairs
    ]
    return sorted(rows, key=lambda row: not row.is_used)
