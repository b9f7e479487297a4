"""What the labelling screen says of the queue: how much is left, and why there is nothing."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, Exists, F, Min, OuterRef
from django.utils import timezone

from annotate.models import Lease, Membership, Pair, Preference, Skip, Study, User
from annotate.services.progress import count_labels
from annotate.services.search import figures_of


@dataclass(frozen=True)
class QueueState:
    """An annotator's figures; `waiting` counts pairs open to them or held by them, up to a limit.

    Practice counts neither as done nor as waiting."""

    waiting: int
    waiting_is_exact: bool
    mine_done: int

    @property
    def waiting_text(self) -> str:
        return str(self.waiting) if self.waiting_is_exact else f"{self.waiting}+"

    @property
    def mine_percent(self) -> int:
        total = self.mine_done + self.waiting
        return round(100 * self.mine_done / total) if total else 0


@dataclass(frozen=True)
class HeldByOthers:
    """Pairs that an annotator could judge, were their slots not held by colleagues."""

    pairs: int
    next_frees_at: datetime | None


@dataclass(frozen=True)
class EmptyReason:
    """Why no pair is shown: a headline, a sentence, and whether looking again makes sense."""

    kind: str
    headline: str
    detail: str
    notice: str
    looks_again: bool


def queue_state(*, study: Study, annotator: User) -> QueueState:
    """Return the annotator's figures in one query whose cost does not grow with the study."""
    figures = figures_of(study=study, annotator=annotator)
    labels = figures.labels
    if labels is None:
        labels = count_labels(study_id=study.pk, annotator=annotator)
    return QueueState(
        waiting=figures.held + figures.claimable, waiting_is_exact=figures.is_exact, mine_done=labels
    )


def empty_reason(
    state: QueueState, *, study: Study, annotator: User, now: datetime | None = None
) -> EmptyReason:
    """Say truthfully why there is no pair to show."""
    done = f"You have labelled {_count(state.mine_done, 'pair')} in this study."
    if study.state == Study.State.CLOSED:
        return EmptyReason("closed", "This study is closed", f"{done} Thank you.", "", looks_again=False)
    if study.state == Study.State.PAUSED:
        detail = f"The lead has paused it; labelling goes on here when they resume it. {done}"
        return EmptyReason("paused", "This study is paused", detail, "", looks_again=True)
    if Membership.objects.filter(study=study, user=annotator, is_paused=True).exists():
        detail = f"The lead has paused it for you; labelling goes on here when they resume it. {done}"
        return EmptyReason("paused", "Your labelling is paused", detail, "", looks_again=True)
    if state.waiting:
        detail = f"A pair has just become free; it appears here in a few seconds. {done}"
        return EmptyReason("soon", "One moment", detail, "", looks_again=True)
    held = held_by_others(study=study, annotator=annotator)
    if held.pairs:
        return _held_reason(held, done=done, notice=study.queue_notice, now=now or timezone.now())
    if not Pair.objects.filter(study=study, labels_wanted__gt=0, reserved_for__isnull=True).exists():
        detail = "Pairs appear here as soon as the first responses have been sampled."
        return EmptyReason("none", "No pairs yet", detail, study.queue_notice, looks_again=True)
    detail = f"{done} Nothing is waiting for you."
    return EmptyReason("done", "All done", detail, study.queue_notice, looks_again=True)


def held_by_others(*, study: Study, annotator: User) -> HeldByOthers:
    """Count what colleagues hold, from their leases: two pairs each at most, in a study of any size."""
    theirs = {"pair": OuterRef("pair"), "annotator": annotator}
    leases = Lease.objects.filter(
        ~Exists(Lease.objects.filter(**theirs)),
        ~Exists(Preference.objects.filter(**theirs)),
        ~Exists(Skip.objects.filter(**theirs)),
        pair__study=study,
        pair__state=Pair.State.OPEN,
        pair__reserved_for__isnull=True,
        pair__slots_taken__gte=F("pair__labels_wanted"),
    )
    figures = leases.aggregate(pairs=Count("pair", distinct=True), first=Min("expires_at"))
    return HeldByOthers(pairs=figures["pairs"], next_frees_at=figures["first"])


def _held_reason(held: HeldByOthers, *, done: str, notice: str, now: datetime) -> EmptyReason:
    verb = "is" if held.pairs == 1 else "are"
    headline = f"{_count(held.pairs, 'pair')} {verb} held by colleagues"
    frees = ""
    if held.next_frees_at is not None:
        minutes = max(1, -int(-(held.next_frees_at - now).total_seconds() // 60))
        frees = f"; the next frees in {minutes} min, unless it is labelled first"
    return EmptyReason("held", headline, f"Nothing else is waiting{frees}. {done}", notice, looks_again=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
