"""Preferences as other parts read them: votes per pair for training sets, and figures for the lead."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Prefetch, Q, QuerySet, Sum

from annotate.models import Lease, Membership, Pair, Preference, Resolution, Skip, Split, Study, Verdict

CHUNK = 500
LEFT_OUT, CONFLICTING = "left_out", "conflicting"


@dataclass(frozen=True)
class Vote:
    """One annotator's verdict, in terms of the pair's stored responses."""

    preference_id: int
    annotator_id: int
    verdict: Verdict
    strength: int | None
    simulated_rule: str
    edited_text: str = ""
    edited_side: str = ""


@dataclass(frozen=True)
class Decision:
    """What a lead decided on a pair: a verdict that goes before the votes; None leaves the pair out."""

    verdict: Verdict | None


@dataclass(frozen=True)
class PairVotes:
    """A pair, its prompt and responses loaded, with the votes that count, oldest first.

    `ignored_votes` says how many more there are, of people who are left out of training sets.
    """

    pair: Pair
    votes: tuple[Vote, ...]
    decision: Decision | None = None
    ignored_votes: int = 0


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
    """Pairs by what a training set can make of them; usable is a majority, or a lead's verdict, for a side.

    Labels of people who are left out of training sets do not count.
    """

    pairs: int
    unlabelled: int
    usable: int
    tied: int
    both_bad: int
    conflicting: int
    left_out: int = 0


def labelled_pairs(
    *, study: Study, batches: Iterable[int] | None = None, purpose: Pair.Purpose = Pair.Purpose.TRAIN
) -> Iterator[PairVotes]:
    """Yield the pairs that have votes or a lead's decision, of prompts in the train split only, by id.

    Votes of people who are left out of training sets are counted and left away, so a pair may have none.
    """
    ignored = left_out_annotators(study)
    pairs = _train_pairs(study=study, batches=batches, purpose=purpose).filter(
        Exists(Preference.objects.filter(pair=OuterRef("pk")))
        | Exists(Resolution.objects.filter(pair=OuterRef("pk")))
    )
    votes = Preference.objects.select_related("edited_response")
    pairs = pairs.select_related("prompt", "response_a", "response_b", "resolution")
    for pair in pairs.prefetch_related(Prefetch("preferences", votes)).order_by("pk").iterator(CHUNK):
        yield _judged(pair, ignored=ignored)


def left_out_annotators(study: Study) -> frozenset[int]:
    """Return the ids of the members whose labels no training set uses."""
    members = Membership.objects.filter(study=study, in_training_sets=False)
    return frozenset(members.values_list("user", flat=True))


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
    """Count training pairs by a lead's verdict, else by the majority of their votes; see `majority`."""
    pairs = _train_pairs(study=study, batches=batches, purpose=Pair.Purpose.TRAIN).order_by()
    votes = Preference.objects.filter(pair__in=pairs.values("pk")).order_by()
    counted = votes.exclude(annotator__in=left_out_annotators(study))
    tallies: defaultdict[int, Counter[str]] = defaultdict(Counter)
    # Added up here: grouped by the database, each sum is converted apart, which takes twice as long.
    for pair, verdict in counted.values_list("pair", "verdict"):
        tallies[pair][verdict] += 1
    outcomes = {pair: majority(tally) for pair, tally in tallies.items()}
    decided = Resolution.objects.filter(pair__in=pairs.values("pk")).order_by()
    for pair, verdict, is_out in decided.values_list("pair", "verdict", "left_out"):
        if is_out or verdict:
            outcomes[pair] = LEFT_OUT if is_out else verdict
    counts, there = Counter(outcomes.values()), pairs.count()
    return LabelUsage(
        pairs=there,
        unlabelled=there - len(outcomes),
        usable=counts[Verdict.A] + counts[Verdict.B],
        tied=counts[Verdict.TIE],
        both_bad=counts[Verdict.BOTH_BAD],
        conflicting=counts[CONFLICTING],
        left_out=counts[LEFT_OUT],
    )


def majority(tally: Counter[str]) -> str:
    """Return the leading verdict, "conflicting" when several lead alike."""
    most = max(tally.values())
    leading = [verdict for verdict, votes in tally.items() if votes == most]
    return leading[0] if len(leading) == 1 else CONFLICTING


def _train_pairs(*, study: Study, batches: Iterable[int] | None, purpose: Pair.Purpose) -> QuerySet[Pair]:
    pairs = Pair.objects.filter(study=study, purpose=purpose, prompt__split=Split.TRAIN)
    pairs = pairs.exclude(state=Pair.State.WITHDRAWN)
    return pairs if batches is None else pairs.filter(batch__in=list(batches))


def _judged(pair: Pair, *, ignored: frozenset[int]) -> PairVotes:
    preferences = sorted(pair.preferences.all(), key=lambda preference: preference.pk)
    votes = tuple(_vote(item) for item in preferences if item.annotator_id not in ignored)
    return PairVotes(
        pair=pair, votes=votes, decision=_decision(pair), ignored_votes=len(preferences) - len(votes)
    )


def _decision(pair: Pair) -> Decision | None:
    resolution: Resolution | None = getattr(pair, "resolution", None)
    if resolution is None:
        return None
    return Decision(verdict=None if resolution.left_out else Verdict(resolution.verdict))


def _vote(preference: Preference) -> Vote:
    edited = preference.edited_response
    return Vote(
        preference_id=preference.pk,
        annotator_id=preference.annotator_id,
        verdict=Verdict(preference.verdict),
        strength=preference.strength,
        simulated_rule=preference.simulated_rule,
        edited_text=edited.text if edited else "",
        edited_side=preference.edited_side if edited else "",
    )
