"""The lead's queues: pairs on which people disagree, which they flagged, or which nobody wants to judge."""

from dataclasses import dataclass

from django.core.paginator import Page, Paginator
from django.db.models import Count, Exists, F, IntegerField, Max, Min, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.utils.http import url_has_allowed_host_and_scheme, urlencode

from annotate.models import Flag, Membership, Pair, Preference, Resolution, Role, Skip, Study, Verdict

PAGE_SIZE = 25
# An address stays far shorter than what browsers and servers take.
MOST_LISTED = 100
QUEUED = (Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE)
KINDS = {
    "conflicts": "Conflicts",
    "disagreements": "Any disagreement",
    "flags": "Flags",
    "skipped": "Skipped by all",
    "decided": "Decided",
}
NOTHING_SAYS = {
    "conflicts": "No pair has votes that tie. Pairs come here when as many people said one thing as another.",
    "disagreements": "Wherever two people judged the same pair, they said the same.",
    "flags": "Nobody has flagged a pair that still waits for an answer.",
    "skipped": "Every open pair still has somebody who can judge it.",
    "decided": "No lead has decided on a pair yet.",
}


@dataclass(frozen=True)
class ReviewFilter:
    """Which queue, narrowed to a delivery, to an annotator's pairs, to a flag's reason.

    Or, where there are `pairs`, the undecided ones of them in this order; `back` is the page that lists them.
    """

    kind: str = "conflicts"
    batch: str = ""
    annotator: str = ""
    reason: str = ""
    pairs: tuple[int, ...] = ()
    back: str = ""

    @property
    def query(self) -> str:
        if self.pairs:
            return urlencode({"pairs": self.listed, "back": self.back})
        chosen = {"kind": self.kind, "batch": self.batch, "annotator": self.annotator, "reason": self.reason}
        return urlencode({key: value for key, value in chosen.items() if value})

    @property
    def listed(self) -> str:
        """Return the pairs as they stand in an address."""
        return ",".join(map(str, self.pairs))


@dataclass(frozen=True)
class QueueTab:
    """One queue with how much waits in it."""

    kind: str
    name: str
    count: int
    is_open: bool


@dataclass(frozen=True)
class SplitPair:
    """An undecided pair on which people disagree; `is_tied` where two verdicts lead alike."""

    pk: int
    batch: int
    is_tied: bool


@dataclass(frozen=True)
class ReviewQueues:
    """All queues, and a page of the open one: `pairs` have their prompts, votes and flags loaded."""

    tabs: list[QueueTab]
    page: Page[int]
    pairs: list[Pair]


def review_filter(params: dict[str, str]) -> ReviewFilter:
    """Read a filter from a query string; what is not known is no filter."""
    kind, back = params.get("kind", "conflicts"), params.get("back", "")
    batch, annotator, reason = (params.get(name, "") for name in ("batch", "annotator", "reason"))
    return ReviewFilter(
        kind=kind if kind in KINDS else "conflicts",
        batch=batch if batch.isdecimal() and len(batch) < 10 else "",
        annotator=annotator if annotator.isdecimal() and len(annotator) < 18 else "",
        reason=reason if reason in Flag.Reason.values else "",
        pairs=_ids(params.get("pairs", "")),
        back=back if url_has_allowed_host_and_scheme(back, allowed_hosts=None) else "",
    )


def _ids(listed: str) -> tuple[int, ...]:
    parts = listed.split(",")[:MOST_LISTED]
    return tuple(int(part) for part in parts if part.isdecimal() and len(part) < 18)


def review_queues(study: Study, *, wanted: ReviewFilter, number: str) -> ReviewQueues:
    """Return the sizes of all queues and a page of one of them: a fixed number of queries."""
    split = split_pairs(study)
    shown = Paginator(review_ids(study, wanted=wanted, split=split), PAGE_SIZE).get_page(number)
    loaded = Pair.objects.select_related("prompt", "resolution").prefetch_related(
        "preferences__annotator", "flags__annotator", "skips__annotator"
    )
    by_id = loaded.in_bulk(list(shown.object_list))
    return ReviewQueues(
        tabs=[
            QueueTab(kind, name, _size(study, kind=kind, split=split), is_open=kind == wanted.kind)
            for kind, name in KINDS.items()
        ],
        page=shown,
        pairs=[by_id[pk] for pk in shown.object_list],
    )


def review_ids(study: Study, *, wanted: ReviewFilter, split: list[SplitPair] | None = None) -> list[int]:
    """Return the ids of a queue's pairs, oldest first; `split` is what is known of pairs in dispute."""
    if wanted.pairs:
        return _undecided(study, listed=wanted.pairs)
    pairs = _queue(study, kind=wanted.kind)
    if pairs is None:
        found = _of_kind(split_pairs(study) if split is None else split, kind=wanted.kind)
        ids = [pair.pk for pair in found if not wanted.batch or pair.batch == int(wanted.batch)]
    else:
        narrowed = pairs.filter(batch=int(wanted.batch)) if wanted.batch else pairs
        if wanted.reason and wanted.kind == "flags":
            narrowed = narrowed.filter(pk__in=_flagged(study).filter(reason=wanted.reason).values("pair"))
        ids = list(narrowed.order_by("pk").values_list("pk", flat=True))
    if wanted.annotator:
        mine = Preference.objects.filter(annotator=int(wanted.annotator), pair__study=study).order_by()
        judged = set(mine.values_list("pair", flat=True))
        ids = [pk for pk in ids if pk in judged]
    return ids


def next_to_review(study: Study, *, wanted: ReviewFilter, after: int) -> int | None:
    """Return the pair that comes after this one in the queue, or the first of it."""
    ids = [pk for pk in review_ids(study, wanted=wanted) if pk != after]
    if after in wanted.pairs:
        passed = wanted.pairs[: wanted.pairs.index(after)]
        later = (pk for pk in ids if pk not in passed)
    else:
        later = (pk for pk in ids if pk > after)
    return next(later, ids[0] if ids else None)


def split_pairs(study: Study) -> list[SplitPair]:
    """Return the undecided pairs on which two people disagree, oldest first: one query.

    Only pairs with two slots taken or more are read, which most studies have few of.
    """
    counts = {verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict}
    votes = Preference.objects.filter(
        pair__study=study,
        pair__slots_taken__gte=2,
        pair__purpose__in=QUEUED,
        pair__reserved_for=None,
        pair__resolution=None,
    ).exclude(pair__state=Pair.State.WITHDRAWN)
    differing = (
        votes.order_by()
        .values_list("pair", "pair__batch")
        .annotate(**counts)
        .annotate(first=Min("verdict"), last=Max("verdict"))
        .exclude(first=F("last"))
        .values_list("pair", "pair__batch", *counts)
    )
    return sorted(
        (SplitPair(pk, batch, is_tied=tally.count(max(tally)) > 1) for pk, batch, *tally in differing),
        key=lambda pair: pair.pk,
    )


def _undecided(study: Study, *, listed: tuple[int, ...]) -> list[int]:
    waiting = Pair.objects.filter(study=study, pk__in=listed, resolution=None)
    ids = set(waiting.exclude(state=Pair.State.WITHDRAWN).values_list("pk", flat=True))
    return [pk for pk in listed if pk in ids]


def _size(study: Study, *, kind: str, split: list[SplitPair]) -> int:
    pairs = _queue(study, kind=kind)
    return len(_of_kind(split, kind=kind)) if pairs is None else pairs.count()


def _of_kind(split: list[SplitPair], *, kind: str) -> list[SplitPair]:
    return [pair for pair in split if pair.is_tied or kind != "conflicts"]


def _queue(study: Study, *, kind: str) -> QuerySet[Pair] | None:
    """Return the pairs of a queue, None for those that `split_pairs` knows."""
    pairs = Pair.objects.filter(study=study, purpose__in=QUEUED, reserved_for__isnull=True)
    if kind == "decided":
        withdrawn = Q(state=Pair.State.WITHDRAWN)
        return pairs.filter(withdrawn | Exists(Resolution.objects.filter(pair=OuterRef("pk"))))
    if kind == "flags":
        return pairs.filter(pk__in=_flagged(study).values("pair"))
    if kind == "skipped":
        waiting = pairs.exclude(state=Pair.State.WITHDRAWN).filter(resolution__isnull=True)
        return _skipped_by_all(waiting, study=study)
    return None


def _flagged(study: Study) -> QuerySet[Flag]:
    return Flag.objects.filter(pair__study=study, resolved_at=None)


def _skipped_by_all(pairs: QuerySet[Pair], *, study: Study) -> QuerySet[Pair]:
    """Keep the pairs that want a label and that every annotator at work has judged or passed on."""
    at_work = Membership.objects.filter(study=study, role=Role.ANNOTATOR, is_paused=False)
    people = list(at_work.values_list("user", flat=True))
    if not people:
        return pairs.none()
    wanting = pairs.filter(state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))
    return (
        wanting.filter(Exists(Skip.objects.filter(pair=OuterRef("pk"))))
        .annotate(passed=_people(Skip, people), judged=_people(Preference, people))
        .filter(passed__gte=len(people) - F("judged"))
    )


def _people(model: type[Skip] | type[Preference], people: list[int]) -> Coalesce:
    rows = model._default_manager.filter(pair=OuterRef("pk"), annotator__in=people).order_by()
    counted = rows.values("pair").annotate(n=Count("pk")).values("n")
    return Coalesce(Subquery(counted, output_field=IntegerField()), 0)
