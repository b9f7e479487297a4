"""How many labels the rounds of a study have: counted while they take labels, afterwards as it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count, Max, Q, Sum

from annotate.models import Pair, Preference, Resolution, Study, Verdict
from annotate.selectors.preferences import LabelUsage, label_usage, left_out_annotators
from training.models import Round, RoundSummary


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


@dataclass(frozen=True)
class CountedLabels:
    """The counts by round number; `unkept` are the rounds whose final counts nobody has kept yet."""

    by_round: dict[int, LabelCounts]
    unkept: list[Round]


def counted_labels(study: Study, *, rounds: Sequence[Round]) -> CountedLabels:
    """Return the counts of these rounds, of training pairs that were not withdrawn: three queries.

    Frozen pairs stay as they are, so a round without an open pair is read from its summary while the number
    of its pairs is the same.
    """
    sizes = pair_sizes(study, rounds=rounds)
    kept = {row.round_id: row for row in RoundSummary.objects.filter(round__in=rounds)}
    known: dict[int, LabelCounts] = {}
    unkept: list[Round] = []
    for item in rounds:
        size, row = sizes.get(item.number), kept.get(item.pk)
        if size is None or size["open"]:
            continue
        if row is not None and row.values["counts"]["pairs"] == size["pairs"]:
            known[item.number] = LabelCounts(**row.values["counts"])
        else:
            unkept.append(item)
    changing = [item.number for item in rounds if item.number not in known]
    return CountedLabels(known | live_counts(study, sizes=sizes, numbers=changing), unkept)


def pair_sizes(study: Study, *, rounds: Iterable[Round]) -> dict[int, dict[str, Any]]:
    """Return by round number how many pairs there are, how many still take labels, what labels they want."""
    pairs = Pair.objects.filter(
        study=study, purpose=Pair.Purpose.TRAIN, batch__in=[item.number for item in rounds]
    )
    totals = pairs.exclude(state=Pair.State.WITHDRAWN).order_by().values("batch")
    rows = totals.annotate(
        pairs=Count("pk"), wanted=Sum("labels_wanted"), open=Count("pk", filter=Q(state=Pair.State.OPEN))
    )
    return {row["batch"]: {**row} for row in rows}


def live_counts(
    study: Study, *, sizes: Mapping[int, Mapping[str, Any]], numbers: Sequence[int]
) -> dict[int, LabelCounts]:
    """Count the labels of these rounds: one query, whose cost grows with them."""
    counted = (
        Preference.objects.filter(
            pair__study=study, pair__purpose=Pair.Purpose.TRAIN, pair__batch__in=numbers
        )
        .exclude(pair__state=Pair.State.WITHDRAWN)
        .order_by()
        .values("pair__batch")
        .annotate(
            **{verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict},
            simulated=Count("pk", filter=~Q(simulated_rule="")),
        )
    )
    rows: list[dict[str, Any]] = [{**row} for row in counted]
    verdicts = {row.pop("pair__batch"): row for row in rows}
    return {
        number: LabelCounts(
            pairs=sizes[number]["pairs"],
            labels_wanted=sizes[number]["wanted"] or 0,
            **verdicts.get(number, {}),
        )
        for number in numbers
        if number in sizes
    }


def usage_until(study: Study, *, rounds: Iterable[Round]) -> LabelUsage:
    """Return what a training set can make of the labels of these rounds, those that are kept from there."""
    rounds = list(rounds)
    keys = usage_keys(study, rounds=rounds)
    kept = {row.round_id: row for row in RoundSummary.objects.filter(round__in=rounds)}
    known = [
        kept[item.pk].values["usage"]
        for item in rounds
        if item.pk in kept and kept[item.pk].key == keys[item.number]
    ]
    changing = [
        item.number for item in rounds if item.pk not in kept or kept[item.pk].key != keys[item.number]
    ]
    live = asdict(label_usage(study=study, batches=changing))
    return LabelUsage(**{name: value + sum(row[name] for row in known) for name, value in live.items()})


def usage_keys(study: Study, *, rounds: Sequence[Round]) -> dict[int, str]:
    """Return by round number what the usage of its labels depends on once they are frozen: three queries.

    A round with an open pair has an empty key, which is no summary's.
    """
    sizes = pair_sizes(study, rounds=rounds)
    decisions = (
        Resolution.objects.filter(pair__study=study, pair__purpose=Pair.Purpose.TRAIN)
        .order_by()
        .values_list("pair__batch")
        .annotate(count=Count("pk"), newest=Max("updated_at"))
    )
    decided = {batch: f"{count}, {newest.isoformat()}" for batch, count, newest in decisions}
    left_out = ",".join(map(str, sorted(left_out_annotators(study))))
    return {
        item.number: usage_key(
            sizes.get(item.number), decided=decided.get(item.number, ""), left_out=left_out
        )
        for item in rounds
    }


def usage_key(size: Mapping[str, Any] | None, *, decided: str, left_out: str) -> str:
    if size is None or size["open"]:
        return ""
    said = f"{size['pairs']} pairs, decisions {decided or 'none'}, without {left_out or 'nobody'}"
    return hashlib.sha256(said.encode()).hexdigest()
