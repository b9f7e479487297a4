"""How many labels the rounds of a study have: those on frozen pairs as they are kept, the others counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Q, QuerySet, Sum

from annotate.models import Pair, Preference, Study, Verdict
from annotate.selectors.frozen_votes import KeptVotes, kept_votes, open_batches
from annotate.selectors.preferences import LabelUsage
from annotate.selectors.vote_columns import vote_columns
from annotate.selectors.votes import usage_of
from training.models import Round


@dataclass(frozen=True)
class VerdictShare:
    """One verdict's part of the bar: `start` and `width` in per cent."""

    name: str
    label: str
    share: float
    start: float

    @property
    def width(self) -> float:
        return 100 * self.share


@dataclass(frozen=True)
class LabelCounts:
    """Training pairs and the verdicts on them, in whatever rounds were asked for."""

    pairs: int = 0
    labels_wanted: int = 0
    a: int = 0
    b: int = 0
    tie: int = 0
    both_bad: int = 0
    simulated: int = 0

    @property
    def labels(self) -> int:
        return self.a + self.b + self.tie + self.both_bad

    @property
    def labels_open(self) -> int:
        return max(0, self.labels_wanted - self.labels)

    @property
    def shares(self) -> list[VerdictShare]:
        """Return the verdicts that occur, as adjoining parts of one bar; nothing without labels."""
        counts = {verdict: getattr(self, verdict.value) for verdict in Verdict}
        shares: list[VerdictShare] = []
        start = 0.0
        for verdict, count in counts.items():
            if count:
                label = verdict.label.removesuffix(" is better")
                shares.append(VerdictShare(verdict.value, label, count / self.labels, start))
                start += shares[-1].width
        return shares

    def __add__(self, other: LabelCounts) -> LabelCounts:
        return LabelCounts(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        )


def counted_labels(study: Study, *, rounds: Iterable[Round]) -> dict[int, LabelCounts]:
    """Return by round number the labels on training pairs that were not withdrawn: five queries.

    Those on frozen pairs are read from where they are kept, so that the cost grows with the open round alone.
    """
    numbers = [item.number for item in rounds]
    opened = open_batches(study, batches=numbers)
    kept = kept_votes(study, column="counts", batches=numbers)
    counts: defaultdict[int, LabelCounts] = defaultdict(LabelCounts)
    for row in kept.rows:
        wanted, verdicts = row.counts["labels_wanted"], row.counts["verdicts"]
        counts[row.batch] += LabelCounts(pairs=row.pairs, labels_wanted=wanted, **verdicts)
    live_numbers = kept.batches_elsewhere(opened=opened)
    for number, live in [
        *live_pairs(study, numbers=live_numbers, kept=kept),
        *live_labels(study, numbers=live_numbers, kept=kept),
    ]:
        counts[number] += live
    return dict(counts)


def live_pairs(study: Study, *, numbers: Collection[int], kept: KeptVotes) -> list[tuple[int, LabelCounts]]:
    """Count the pairs of each of these rounds that are not kept, and the labels they want: one query."""
    totals = _pairs_not_kept(study, numbers=numbers, kept=kept).order_by().values_list("batch")
    rows = totals.annotate(pairs=Count("pk"), labels_wanted=Sum("labels_wanted"))
    return [(number, LabelCounts(pairs=count, labels_wanted=wanted)) for number, count, wanted in rows]


def live_labels(study: Study, *, numbers: Collection[int], kept: KeptVotes) -> list[tuple[int, LabelCounts]]:
    """Count the labels of each of these rounds that are not kept: one query."""
    pairs = _pairs_not_kept(study, numbers=numbers, kept=kept)
    counted: Any = (
        Preference.objects.filter(pair__in=pairs.values("pk"))
        .order_by()
        .values("pair__batch")
        .annotate(
            **{verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict},
            simulated=Count("pk", filter=~Q(simulated_rule="")),
        )
    )
    rows: list[dict[str, int]] = list(counted)
    return [(row.pop("pair__batch"), LabelCounts(**row)) for row in rows]


def _pairs_not_kept(study: Study, *, numbers: Collection[int], kept: KeptVotes) -> QuerySet[Pair]:
    pairs = Pair.objects.filter(
        kept.pairs_elsewhere, study=study, purpose=Pair.Purpose.TRAIN, batch__in=numbers
    )
    return pairs.exclude(state=Pair.State.WITHDRAWN)


def usage_until(study: Study, *, rounds: Iterable[Round]) -> LabelUsage:
    """Return what a training set can make of the labels of these rounds, as of now: a few queries.

    Decided anew each time, so that it follows every decision of a lead and whoever is left out.
    """
    numbers = [item.number for item in rounds]
    there = Pair.objects.filter(
        study=study,
        state__in=[Pair.State.OPEN, Pair.State.FROZEN],
        purpose=Pair.Purpose.TRAIN,
        batch__in=numbers,
    )
    return usage_of(vote_columns(study=study, batches=numbers), pairs=there.count())
