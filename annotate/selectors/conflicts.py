"""The lead's queues: pairs on which people disagree, which they flagged, or which nobody wants to judge."""

from dataclasses import dataclass
from itertools import combinations

from django.core.paginator import Page, Paginator
from django.db.models import Count, Exists, F, IntegerField, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest
from django.utils.http import urlencode

from annotate.models import Flag, Membership, Pair, Preference, Resolution, Role, Skip, Study, Verdict

PAGE_SIZE = 25
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
    """Which queue, narrowed to a delivery, to an annotator's pairs, to a flag's reason."""

    kind: str = "conflicts"
    batch: str = ""
    annotator: str = ""
    reason: str = ""

    @property
    def query(self) -> str:
        chosen = {"kind": self.kind, "batch": self.batch, "annotator": self.annotator, "reason": self.reason}
        return urlencode({key: value for key, value in chosen.items() if value})


@dataclass(frozen=True)
class QueueTab:
    """One queue with how much waits in it."""

    kind: str
    name: str
    count: int


def review_filter(params: dict[str, str]) -> ReviewFilter:
    """Read a filter from a query string; what is not known is no filter."""
    kind = params.get("kind", "conflicts")
    batch, annotator, reason = (params.get(name, "") for name in ("batch", "annotator", "reason"))
    return ReviewFilter(
        kind=kind if kind in KINDS else "conflicts",
        batch=batch if batch.isdecimal() and len(batch) < 10 else "",
        annotator=annotator if annotator.isdecimal() and len(annotator) < 18 else "",
        reason=reason if reason in Flag.Reason.values else "",
    )


def review_tabs(study: Study) -> list[QueueTab]:
    """Return the queues with their sizes."""
    return [QueueTab(kind, name, _queue(study, kind=kind).count()) for kind, name in KINDS.items()]


def review_pairs(study: Study, *, wanted: ReviewFilter) -> QuerySet[Pair]:
    """Return the pairs of a queue, oldest first."""
    pairs = _queue(study, kind=wanted.kind)
    if wanted.batch:
        pairs = pairs.filter(batch=int(wanted.batch))
    if wanted.annotator:
        mine = Preference.objects.filter(pair=OuterRef("pk"), annotator=int(wanted.annotator))
        pairs = pairs.filter(Exists(mine))
    if wanted.reason and wanted.kind == "flags":
        flags = Flag.objects.filter(pair=OuterRef("pk"), reason=wanted.reason, resolved_at=None)
        pairs = pairs.filter(Exists(flags))
    return pairs.order_by("pk")


def review_page(study: Study, *, wanted: ReviewFilter, number: str) -> Page[Pair]:
    """Return a page of a queue, with prompts, votes and flags loaded."""
    pairs = review_pairs(study, wanted=wanted).select_related("prompt", "resolution")
    pairs = pairs.prefetch_related("preferences__annotator", "flags__annotator", "skips__annotator")
    page: Page[Pair] = Paginator(pairs, PAGE_SIZE).get_page(number)
    return page


def next_to_review(study: Study, *, wanted: ReviewFilter, after: int) -> int | None:
    """Return the pair that comes after this one in the queue, or the first of it."""
    ids = review_pairs(study, wanted=wanted).exclude(pk=after).values_list("pk", flat=True)
    following = ids.filter(pk__gt=after).first()
    return following if following is not None else ids.first()


def _queue(study: Study, *, kind: str) -> QuerySet[Pair]:
    pairs = Pair.objects.filter(
        study=study, purpose__in=[Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE], reserved_for__isnull=True
    )
    if kind == "decided":
        withdrawn = Q(state=Pair.State.WITHDRAWN)
        return pairs.filter(withdrawn | Exists(Resolution.objects.filter(pair=OuterRef("pk"))))
    if kind == "flags":
        return pairs.filter(Exists(Flag.objects.filter(pair=OuterRef("pk"), resolved_at=None)))
    waiting = pairs.exclude(state=Pair.State.WITHDRAWN).filter(resolution__isnull=True)
    if kind == "skipped":
        return _skipped_by_all(waiting, study=study)
    return _split(waiting, study=study, only_ties=kind == "conflicts")


def _split(pairs: QuerySet[Pair], *, study: Study, only_ties: bool) -> QuerySet[Pair]:
    """Keep the pairs whose votes differ; with `only_ties`, those where two verdicts lead alike.

    Votes are grouped by themselves, before any pair is read.
    """
    votes = Preference.objects.filter(pair__study=study).order_by().values("pair")
    if not only_ties:
        differing = votes.annotate(verdicts=Count("verdict", distinct=True)).filter(verdicts__gt=1)
        return pairs.filter(pk__in=differing.values("pair"))
    counts = {f"n_{verdict.value}": Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict}
    leading = Q()
    for first, second in combinations(counts, 2):
        leading |= Q(**{first: F("most"), second: F("most")})
    tied = votes.annotate(**counts).annotate(most=Greatest(*counts)).filter(leading)
    return pairs.filter(pk__in=tied.values("pair"))


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
