"""What the labelling screen says of the queue: how much is left, and why there is nothing."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, F, Min, OuterRef, QuerySet
from django.utils import timezone

from annotate.models import Lease, Pair, Preference, Skip, Study, User
from annotate.services.queue import claimable_pairs

# Counting stops here, so that the figure costs the same in a study of a million pairs.
COUNT_LIMIT = 1000


@dataclass(frozen=True)
class QueueState:
    """`waiting` counts pairs open to or held by this annotator; counts stop at COUNT_LIMIT."""

    waiting: int
    held_by_others: int
    next_frees_at: datetime | None
    mine_done: int
    pairs_exist: bool
    notice: str
    study_state: Study.State

    @property
    def waiting_text(self) -> str:
        return f"{COUNT_LIMIT}+" if self.waiting > COUNT_LIMIT else str(self.waiting)

    @property
    def mine_percent(self) -> int:
        total = self.mine_done + self.waiting
        return round(100 * self.mine_done / total) if total else 0


@dataclass(frozen=True)
class EmptyReason:
    """Why no pair is shown: a headline, a sentence, and whether looking again makes sense."""

    kind: str
    headline: str
    detail: str
    notice: str
    looks_again: bool


def queue_state(*, study: Study, annotator: User) -> QueueState:
    """Return the annotator's figures in four queries whose cost does not grow with the study."""
    mine = Lease.objects.filter(annotator=annotator, pair__study=study, pair__state=Pair.State.OPEN).count()
    waiting = mine + claimable_pairs(study=study, annotator=annotator).order_by()[: COUNT_LIMIT + 1].count()
    held = _held_by_others(study=study, annotator=annotator) if waiting == 0 else Pair.objects.none()
    return QueueState(
        waiting=waiting,
        held_by_others=held.order_by()[:COUNT_LIMIT].count(),
        next_frees_at=_next_expiry(held) if waiting == 0 else None,
        mine_done=Preference.objects.filter(annotator=annotator, pair__study=study).count(),
        pairs_exist=waiting > 0 or Pair.objects.filter(study=study).exists(),
        notice=study.queue_notice,
        study_state=Study.State(study.state),
    )


def empty_reason(state: QueueState, *, now: datetime | None = None) -> EmptyReason:
    """Say truthfully why there is no pair to show."""
    done = f"You have labelled {_count(state.mine_done, 'pair')} in this study."
    if state.study_state == Study.State.CLOSED:
        return EmptyReason("closed", "This study is closed", f"{done} Thank you.", "", looks_again=False)
    if state.study_state == Study.State.PAUSED:
        detail = f"The lead has paused it; labelling goes on here when they resume it. {done}"
        return EmptyReason("paused", "This study is paused", detail, "", looks_again=True)
    if state.held_by_others:
        return _held_reason(state, done=done, now=now or timezone.now())
    if not state.pairs_exist:
        detail = "Pairs appear here as soon as the first responses have been sampled."
        return EmptyReason("none", "No pairs yet", detail, state.notice, looks_again=True)
    return EmptyReason(
        "done", "All done", f"{done} Nothing is waiting for you.", state.notice, looks_again=True
    )


def _held_reason(state: QueueState, *, done: str, now: datetime) -> EmptyReason:
    verb = "is" if state.held_by_others == 1 else "are"
    held = f"{_count(state.held_by_others, 'pair')} {verb} held by colleagues"
    frees = ""
    if state.next_frees_at is not None:
        minutes = max(1, -int(-(state.next_frees_at - now).total_seconds() // 60))
        frees = f"; the next frees in {minutes} min, unless it is labelled first"
    return EmptyReason(
        "held", held, f"Nothing else is waiting{frees}. {done}", state.notice, looks_again=True
    )


def _held_by_others(*, study: Study, annotator: User) -> QuerySet[Pair]:
    """Open pairs that this annotator could judge, were their slots not held by colleagues."""
    pair = OuterRef("pk")
    return Pair.objects.filter(
        Exists(Lease.objects.filter(pair=pair)),
        ~Exists(Lease.objects.filter(pair=pair, annotator=annotator)),
        ~Exists(Preference.objects.filter(pair=pair, annotator=annotator)),
        ~Exists(Skip.objects.filter(pair=pair, annotator=annotator)),
        study=study,
        state=Pair.State.OPEN,
        slots_taken__gte=F("labels_wanted"),
    )


def _next_expiry(pairs: QuerySet[Pair]) -> datetime | None:
    moment: datetime | None = Lease.objects.filter(pair__in=pairs).aggregate(first=Min("expires_at"))["first"]
    return moment


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
