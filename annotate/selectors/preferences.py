"""Preferences as other parts read them: votes per pair for training sets, and figures for the lead."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Sum

from annotate.models import Lease, Pair, Preference, Skip, Split, Study, Verdict

CHUNK = 500


@dataclass(frozen=True)
class Vote:
    """One annotator's verdict, in terms of the pair's stored responses."""

    preference_id: int
    annotator_id: int
    verdict: Verdict
    strength: int | None
    simulated_rule: str


@dataclass(frozen=True)
class PairVotes:
    """A pair, its prompt and responses loaded, with everybody's votes, oldest first."""

    pair: Pair
    votes: tuple[Vote, ...]


@dataclass(frozen=True)
class LabelProgress:
    """How far one delivery of pairs has been labelled; counts of labels, except `pairs` and `live_leases`."""

    pairs: int
    labels_wanted: int
    labels: int
    a: int
    b: int
    tie: int
    both_bad: int
    skips: int
    live_leases: int
    simulated: int


@dataclass(frozen=True)
class LabelUsage:
    """Pairs by what a training set can make of them: a majority for one side is usable."""

    pairs: int
    unlabelled: int
    usable: int
    tied: int
    both_bad: int
    conflicting: int


def labelled_pairs(
    *, study: Study, batches: Iterable[int] | None = None, purpose: Pair.Purpose = Pair.Purpose.TRAIN
) -> Iterator[PairVotes]:
    """Yield the pairs that have votes, of prompts in the train split only, in the order of their ids."""
    pairs = _train_pairs(study=study, batches=batches, purpose=purpose).filter(
        Exists(Preference.objects.filter(pair=OuterRef("pk")))
    )
    pairs = pairs.select_related("prompt", "response_a", "response_b").prefetch_related("preferences")
    for pair in pairs.order_by("pk").iterator(chunk_size=CHUNK):
        yield PairVotes(pair=pair, votes=_votes(pair))


def label_progress(*, study: Study, batch: int) -> LabelProgress:
    """Return the figures of one delivery of training pairs."""
    pairs = _train_pairs(study=study, batches=[batch], purpose=Pair.Purpose.TRAIN)
    size = pairs.aggregate(pairs=Count("pk"), labels_wanted=Sum("labels_wanted", default=0))
    verdicts = {verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict}
    labels = Preference.objects.filter(pair__in=pairs).aggregate(
        labels=Count("pk"), simulated=Count("pk", filter=~Q(simulated_rule="")), **verdicts
    )
    skips = Skip.objects.filter(pair__in=pairs).count()
    live_leases = Lease.objects.filter(pair__in=pairs).count()
    return LabelProgress(**size, **labels, skips=skips, live_leases=live_leases)


def label_usage(*, study: Study, batches: Iterable[int] | None = None) -> LabelUsage:
    """Count training pairs by the majority of their votes; see `majority`."""
    pairs = _train_pairs(study=study, batches=batches, purpose=Pair.Purpose.TRAIN)
    counted = {
        verdict.value: Count("preferences", filter=Q(preferences__verdict=verdict)) for verdict in Verdict
    }
    tallies = pairs.annotate(**counted).order_by().values_list(*counted)
    outcomes = [
        majority(dict(zip(counted, tally, strict=True))) for tally in tallies.iterator(chunk_size=5000)
    ]
    return LabelUsage(
        pairs=len(outcomes),
        unlabelled=outcomes.count("unlabelled"),
        usable=outcomes.count(Verdict.A) + outcomes.count(Verdict.B),
        tied=outcomes.count(Verdict.TIE),
        both_bad=outcomes.count(Verdict.BOTH_BAD),
        conflicting=outcomes.count("conflicting"),
    )


def majority(tally: dict[str, int]) -> str:
    """Return the leading verdict, "conflicting" when two lead alike, "unlabelled" without votes."""
    most = max(tally.values())
    if most == 0:
        return "unlabelled"
    leading = [verdict for verdict, votes in tally.items() if votes == most]
    return leading[0] if len(leading) == 1 else "conflicting"


def _train_pairs(*, study: Study, batches: Iterable[int] | None, purpose: Pair.Purpose) -> QuerySet[Pair]:
    pairs = Pair.objects.filter(study=study, purpose=purpose, prompt__split=Split.TRAIN)
    pairs = pairs.exclude(state=Pair.State.WITHDRAWN)
    return pairs if batches is None else pairs.filter(batch__in=list(batches))


def _votes(pair: Pair) -> tuple[Vote, ...]:
    preferences = sorted(pair.preferences.all(), key=lambda preference: preference.pk)
    return tuple(
        Vote(
            preference_id=preference.pk,
            annotator_id=preference.annotator_id,
            verdict=Verdict(preference.verdict),
            strength=preference.strength,
            simulated_rule=preference.simulated_rule,
        )
        for preference in preferences
    )
