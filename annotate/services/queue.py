"""Who judges what next: pairs are held by leases, and a lease takes one of its pair's slots.

Next = highest priority, then order key, among the open pairs that still want labels and that this annotator
has not judged, held or skipped. An annotator holds at most `LEASES_PER_ANNOTATOR` pairs: the one on the
screen and the one fetched ahead of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from annotate.models import Lease, Pair, Preference, Response, Side, Skip, Study, User
from annotate.services.locks import lock_annotator, lock_pair
from annotate.services.sides import choose_left_side
from annotate.services.slots import give_slot_back, take_slot

LEASES_PER_ANNOTATOR = 2
PAIR_PARTS = ("prompt", "response_a", "response_b")


@dataclass(frozen=True)
class LeasedPair:
    """A pair as one annotator sees it; `pair` has its prompt and responses loaded."""

    pair: Pair
    left_side: Side
    expires_at: datetime

    @property
    def left(self) -> Response:
        return self.pair.response_a if self.left_side == Side.A else self.pair.response_b

    @property
    def right(self) -> Response:
        return self.pair.response_b if self.left_side == Side.A else self.pair.response_a


def claimable_pairs(*, study: Study, annotator: User) -> QuerySet[Pair]:
    """Open pairs that this annotator could be given now, in the order of the queue."""
    mine = {"pair": OuterRef("pk"), "annotator": annotator}
    return (
        Pair.objects.filter(study=study, state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))
        .filter(
            ~Exists(Preference.objects.filter(**mine)),
            ~Exists(Lease.objects.filter(**mine)),
            ~Exists(Skip.objects.filter(**mine)),
        )
        .order_by(F("priority").desc(), "order_key", "pk")
    )


def lease_next_pair(*, study: Study, annotator: User, beyond: int | None = None) -> LeasedPair | None:
    """Return the pair to show next, held for this annotator; None when there is none.

    Pairs that the annotator holds already come first, oldest lease first, so that a reload or a second tab
    shows the same one. `beyond` is the pair on the screen: the answer is another one, fetched ahead.
    """
    if study.state != Study.State.ACTIVE:
        return None
    with transaction.atomic():
        lock_annotator(annotator)
        held = list(_leases_held(study=study, annotator=annotator))
        waiting = [lease for lease in held if lease.pair_id != beyond]
        if waiting:
            return _renew(waiting[0], study=study)
        if len(held) >= LEASES_PER_ANNOTATOR:
            return None
        pair = _claim(study=study, annotator=annotator)
        return hold_pair(pair=pair, annotator=annotator, study=study) if pair is not None else None


def hold_pair(
    *,
    pair: Pair,
    annotator: User,
    study: Study,
    left_side: Side | None = None,
    acquired_at: datetime | None = None,
) -> LeasedPair:
    """Write a lease for a slot that the caller has taken."""
    side = left_side or choose_left_side(pair=pair, annotator=annotator)
    now = timezone.now()
    lease = Lease.objects.create(
        pair=pair,
        annotator=annotator,
        left_side=side,
        created_at=acquired_at or now,
        expires_at=now + timedelta(seconds=study.lease_seconds),
    )
    return LeasedPair(pair=pair, left_side=side, expires_at=lease.expires_at)


def release_lease(*, pair: Pair, annotator: User) -> bool:
    """Give a held pair back to the queue; False when it was not held."""
    with transaction.atomic():
        lock_pair(pair.pk)
        return _drop(Lease.objects.filter(pair=pair, annotator=annotator), pair_id=pair.pk)


def release_expired_leases(now: datetime | None = None, *, study: Study | None = None) -> int:
    """Give back every pair whose lease ran out before `now`; returns how many."""
    now = now or timezone.now()
    expired = Lease.objects.filter(expires_at__lt=now).order_by("pair_id")
    if study is not None:
        expired = expired.filter(pair__study=study)
    return sum(
        _release_if_expired(lease_id, pair_id=pair_id, now=now)
        for lease_id, pair_id in expired.values_list("pk", "pair_id")
    )


def release_expired_of_pair(pair_id: int) -> int:
    """Give back the slots that ran out on one pair, which the caller has locked."""
    expired = Lease.objects.filter(pair_id=pair_id, expires_at__lt=timezone.now())
    return sum(
        _drop(Lease.objects.filter(pk=lease_id), pair_id=pair_id)
        for lease_id in expired.values_list("pk", flat=True)
    )


def _leases_held(*, study: Study, annotator: User) -> QuerySet[Lease]:
    parts = [f"pair__{part}" for part in PAIR_PARTS]
    mine = Lease.objects.filter(annotator=annotator, pair__study=study, pair__state=Pair.State.OPEN)
    return mine.select_related("pair", *parts).order_by("created_at", "pk")


def _renew(lease: Lease, *, study: Study) -> LeasedPair:
    """Showing a pair starts its time anew, also when it had run out and nobody had taken the slot."""
    lease.expires_at = timezone.now() + timedelta(seconds=study.lease_seconds)
    lease.save(update_fields=["expires_at"])
    return LeasedPair(pair=lease.pair, left_side=Side(lease.left_side), expires_at=lease.expires_at)


def _claim(*, study: Study, annotator: User) -> Pair | None:
    """Take a slot of the first claimable pair.

    Rows that others have locked are passed over first. Before saying that there is nothing, expired leases
    are released and locked rows waited for, so that nobody is told "all done" because of a collision.
    """
    pairs = claimable_pairs(study=study, annotator=annotator).select_related(*PAIR_PARTS)
    pair = pairs.select_for_update(skip_locked=True, no_key=True, of=("self",)).first()
    if pair is None:
        release_expired_leases(study=study)
        pair = pairs.select_for_update(no_key=True, of=("self",)).first()
    return pair if pair is not None and take_slot(pair.pk) else None


def _release_if_expired(lease_id: int, *, pair_id: int, now: datetime) -> bool:
    with transaction.atomic():
        lock_pair(pair_id)
        return _drop(Lease.objects.filter(pk=lease_id, expires_at__lt=now), pair_id=pair_id)


def _drop(lease: QuerySet[Lease], *, pair_id: int) -> bool:
    deleted, _ = lease.delete()
    if deleted:
        give_slot_back(pair_id)
    return bool(deleted)
