"""The quality of a study's labels, per study and per annotator, in a fixed number of queries.

What needs the texts or the single durations is read from the latest labels only, so that the page costs the
same at a hundred thousand labels; the page says how many those are.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, Value, When
from django.db.models.functions import Length
from django.db.models.lookups import GreaterThan

from annotate.models import Membership, Pair, Preference, Study, User, Verdict
from annotate.quality.alarms import Alarm, alarms_of
from annotate.quality.statistics import Alpha, Share, median, share_of
from annotate.selectors.agreement import (
    Agreement,
    agreement_by_annotator,
    batch_tally_rows,
    study_agreement,
    tally_rows,
)
from annotate.selectors.frozen_votes import KeptVotes, kept_votes
from annotate.selectors.vote_counts import DayLabels, kept_labels_by_day, labels_by_day
from annotate.services.checks import NO_BATCH

LATEST_LABELS = 5000
DAYS = 28
REAL_PURPOSES = (Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE)


@dataclass(frozen=True)
class Figures:
    """The figures of one annotator, or of the whole study."""

    labels: int
    agreement: Agreement
    consistency: Share
    same_side: Share
    gold: Share
    ties: Share
    both_bad: Share
    left: Share
    longer: Share
    median_seconds: float | None
    timed_labels: int

    @property
    def alpha(self) -> Alpha:
        return self.agreement.alpha

    @property
    def raw(self) -> Share:
        return self.agreement.raw


@dataclass(frozen=True)
class AnnotatorQuality:
    """One annotator's line."""

    user: User
    figures: Figures
    in_training_sets: bool
    is_member: bool
    alarms: tuple[Alarm, ...]


@dataclass(frozen=True)
class DayCount:
    """Labels of one day."""

    day: date
    labels: int


@dataclass(frozen=True)
class StudyQuality:
    """All that the quality page shows."""

    figures: Figures
    alarms: tuple[Alarm, ...]
    annotators: tuple[AnnotatorQuality, ...]
    days: tuple[DayCount, ...]


@dataclass(frozen=True)
class BatchQuality:
    """The quality of one delivery's labels, and each annotator's median seconds on its latest ones.

    Repeats and gold pairs belong to no delivery: those figures are the study's.
    """

    figures: Figures
    alarms: tuple[Alarm, ...]
    median_seconds: dict[int, float]


@dataclass
class _Counts:
    """Sums that figures are made of; those of the study are the sums over its annotators."""

    labels: int = 0
    a_or_b: int = 0
    left: int = 0
    tie: int = 0
    both_bad: int = 0
    repeats: int = 0
    consistent: int = 0
    changed: int = 0
    same_side: int = 0
    gold: int = 0
    gold_right: int = 0
    unequal: int = 0
    longer: int = 0

    def add(self, other: "_Counts") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class _Counted:
    """What four queries gave: sums per annotator, labels per day, seconds of the latest labels."""

    counts: dict[int, _Counts]
    days: dict[date, int]
    seconds: dict[int, list[float]]


def study_quality(study: Study) -> StudyQuality:
    """Return the figures of a study and of each of its annotators: nine queries at most."""
    kept = kept_votes(study, column="counts")
    counted = _counted(study, kept=kept)
    counts, seconds = counted.counts, counted.seconds
    rows = tally_rows(study, kept=kept)
    everybody = _Counts()
    for mine in counts.values():
        everybody.add(mine)
    figures = _figures(
        everybody,
        agreement=study_agreement(rows),
        seconds=[value for values in seconds.values() for value in values],
    )
    agreement = agreement_by_annotator(rows)
    annotators = {
        user_id: _figures(
            mine, agreement=agreement.get(user_id, study_agreement([])), seconds=seconds[user_id]
        )
        for user_id, mine in counts.items()
    }
    return StudyQuality(
        figures=figures,
        alarms=alarms_of(figures, whose="Together, the annotators"),
        annotators=_lines(study, figures=annotators),
        days=_latest_days(counted.days),
    )


def batch_quality(study: Study, *, batch: int) -> BatchQuality:
    """Return the figures of one delivery of training pairs: five queries, whose cost grows with it alone."""
    counts: dict[int, _Counts] = defaultdict(_Counts)
    labels = _labels(study).filter(pair__purpose=Pair.Purpose.TRAIN, pair__batch=batch)
    for row in labels_by_day(labels):
        counts[row.annotator_id].add(_verdicts_of(row))
    _count_repeats(study, into=counts)
    _count_gold(study, into=counts)
    seconds = _read_latest(labels, among=labels, into=counts, lengths=True)
    everybody = _Counts()
    for mine in counts.values():
        everybody.add(mine)
    figures = _figures(
        everybody,
        agreement=study_agreement(batch_tally_rows(study, batch=batch)),
        seconds=[value for values in seconds.values() for value in values],
    )
    medians = {user: middle for user, own in seconds.items() if (middle := median(own)) is not None}
    return BatchQuality(figures, alarms_of(figures, whose="Together, the annotators"), medians)


def figures_by_annotator(study: Study, *, users: Iterable[int]) -> dict[int, Figures]:
    """Return the figures of each of these people, but for agreement and longer picks: six queries."""
    counted = _counted(study, kept=kept_votes(study, column="counts"), lengths=False)
    nobody = study_agreement([])
    return {
        user: _figures(counted.counts[user], agreement=nobody, seconds=counted.seconds[user])
        for user in users
    }


def _counted(study: Study, *, kept: KeptVotes, lengths: bool = True) -> _Counted:
    counts: dict[int, _Counts] = defaultdict(_Counts)
    days = _count_verdicts(study, kept=kept, into=counts)
    _count_repeats(study, into=counts)
    _count_gold(study, into=counts)
    # Among all of a study's labels, of any purpose: the database finds those from the newest backwards.
    among = Preference.objects.filter(pair__study=study)
    labels = Preference.objects.filter(pair__purpose__in=REAL_PURPOSES)
    seconds = _read_latest(labels, among=among, into=counts, lengths=lengths)
    return _Counted(counts=counts, days=days, seconds=seconds)


def _count_verdicts(study: Study, *, kept: KeptVotes, into: dict[int, _Counts]) -> dict[date, int]:
    """Count verdicts and left picks; returns the labels of each day (UTC)."""
    days: Counter[date] = Counter()
    live = labels_by_day(_labels(study).filter(kept.votes_elsewhere))
    for row in [*live, *kept_labels_by_day(kept.rows)]:
        days[date.fromisoformat(row.day)] += row.labels
        into[row.annotator_id].add(_verdicts_of(row))
    return dict(days)


def _verdicts_of(row: DayLabels) -> _Counts:
    return _Counts(
        labels=row.labels,
        tie=row.tie,
        both_bad=row.both_bad,
        left=row.left,
        a_or_b=row.labels - row.tie - row.both_bad,
    )


def _count_repeats(study: Study, *, into: dict[int, _Counts]) -> None:
    """Compare each repeat with the first verdict. Sides were swapped, so a side that is kept is a habit."""
    first = Preference.objects.filter(pair=OuterRef("pair__original"), annotator=OuterRef("annotator"))
    rows = (
        Preference.objects.filter(pair__study=study, pair__batch=NO_BATCH, pair__purpose=Pair.Purpose.REPEAT)
        .annotate(first=Subquery(first.values("verdict")[:1]))
        .exclude(first=None)
        .values_list("annotator", "verdict", "first")
        .annotate(n=Count("pk"))
        .order_by()
    )
    sides = {Verdict.A.value, Verdict.B.value}
    for annotator, verdict, before, labels in rows:
        mine = into[annotator]
        mine.repeats += labels
        mine.consistent += labels if verdict == before else 0
        mine.changed += labels if verdict != before else 0
        mine.same_side += labels if verdict != before and {verdict, before} == sides else 0


def _count_gold(study: Study, *, into: dict[int, _Counts]) -> None:
    right = Q(verdict=F("pair__original__known_answer__verdict"))
    rows = (
        Preference.objects.filter(
            pair__study=study,
            pair__batch=NO_BATCH,
            pair__purpose=Pair.Purpose.GOLD,
            pair__original__known_answer__isnull=False,
        )
        .values("annotator")
        .annotate(labels=Count("pk"), right=Count("pk", filter=right))
    )
    for row in rows:
        into[row["annotator"]].gold = row["labels"]
        into[row["annotator"]].gold_right = row["right"]


def _read_latest(
    labels: QuerySet[Preference],
    *,
    among: QuerySet[Preference],
    into: dict[int, _Counts],
    lengths: bool,
) -> dict[int, list[float]]:
    """Read durations of those labels that belong to the latest of `among`, and with `lengths`, for which the
    texts are read, which response was longer; returns seconds per annotator.
    """
    # The ids first: sorting must not drag the texts along.
    latest = among.order_by("-pk").values("pk")[:LATEST_LABELS]
    rows = labels.filter(pk__in=Subquery(latest)).values_list(
        "annotator", "verdict", "duration_ms", _longer_response() if lengths else Value("")
    )
    seconds: dict[int, list[float]] = defaultdict(list)
    for annotator, verdict, duration_ms, longer in rows:
        mine = into[annotator]
        if duration_ms is not None:
            seconds[annotator].append(duration_ms / 1000)
        if longer and verdict in (Verdict.A, Verdict.B):
            mine.unequal += 1
            mine.longer += verdict == longer
    return seconds


def _longer_response() -> Case:
    """The verdict that prefers the longer response of a preference's pair; empty where none is longer."""
    a, b = Length("pair__response_a__text"), Length("pair__response_b__text")
    return Case(
        When(GreaterThan(a, b), then=Value(Verdict.A.value)),
        When(GreaterThan(b, a), then=Value(Verdict.B.value)),
        default=Value(""),
    )


def _figures(counts: _Counts, *, agreement: Agreement, seconds: list[float]) -> Figures:
    return Figures(
        labels=counts.labels,
        agreement=agreement,
        consistency=share_of(hits=counts.consistent, total=counts.repeats),
        same_side=share_of(hits=counts.same_side, total=counts.changed),
        gold=share_of(hits=counts.gold_right, total=counts.gold),
        ties=share_of(hits=counts.tie, total=counts.labels),
        both_bad=share_of(hits=counts.both_bad, total=counts.labels),
        left=share_of(hits=counts.left, total=counts.a_or_b),
        longer=share_of(hits=counts.longer, total=counts.unequal),
        median_seconds=median(seconds),
        timed_labels=len(seconds),
    )


def _lines(study: Study, *, figures: dict[int, Figures]) -> tuple[AnnotatorQuality, ...]:
    memberships = {row.user_id: row for row in Membership.objects.filter(study=study)}
    users = User.objects.in_bulk(list(figures))
    lines = [
        AnnotatorQuality(
            user=users[user_id],
            figures=mine,
            in_training_sets=user_id not in memberships or memberships[user_id].in_training_sets,
            is_member=user_id in memberships,
            alarms=() if users[user_id].is_simulated else alarms_of(mine, whose=users[user_id].display_name),
        )
        for user_id, mine in figures.items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.figures.labels, line.user.username)))


def _latest_days(labels: dict[date, int]) -> tuple[DayCount, ...]:
    today = datetime.now(tz=UTC).date()
    days = [today - timedelta(days=DAYS - 1 - place) for place in range(DAYS)]
    return tuple(DayCount(day=day, labels=labels.get(day, 0)) for day in days)


def _labels(study: Study) -> QuerySet[Preference]:
    """The labels that say something of the study's responses: of no practice, gold or repeat copy."""
    return Preference.objects.filter(pair__study=study, pair__purpose__in=REAL_PURPOSES).order_by()
