"""Who judges what next: pairs are held by leases, and a lease takes one of its pair's slots.

Next = a pair reserved for this annotator, then highest priority, then order key, among the open pairs that
still want labels and that this annotator has not judged, held or skipped. An annotator holds at most
`LEASES_PER_ANNOTATOR` pairs: the one on the screen and the one fetched ahead of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate.models import Lease, Membership, Pair, Response, Side, Study, User
from annotate.services.checks import due_check
from annotate.services.claimable import claimable_pairs, free_pairs, reserved_pairs
from annotate.services.cursors import (
    Place,
    first_beyond_cursor,
    move_cursor,
    move_cursors_to_end,
    sweep_queue,
)
from annotate.services.locks import lock_annotator, lock_pair, lock_queue
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


@dataclass(frozen=True)
class _Turn:
    """What one look into the queue gave; `ran_dry` says that the queue has nothing for the annotator."""

    leased: LeasedPair | None
    ran_dry: bool = False


def lease_next_pair(*, study: Study, annotator: User, beyond: int | None = None) -> LeasedPair | None:
    """Return the pair to show next, held for this annotator; None when there is none.

    Pairs that the annotator holds already come first, oldest lease first, so that a reload or a second tab
    shows the same one. `beyond` is the pair on the screen: the answer is another one, fetched ahead.
    """
    if study.state != Study.State.ACTIVE:
        return None
    turn = _take_turn(study=study, annotator=annotator, beyond=beyond)
    if turn.ran_dry and _look_again(study=study, annotator=annotator):
        turn = _take_turn(study=study, annotator=annotator, beyond=beyond)
    return turn.leased


def renew_leases(*, study: Study, annotator: User) -> dict[int, datetime]:
    """Start the time of every pair that the annotator holds anew; returns when each runs out."""
    expires_at = timezone.now() + timedelta(seconds=study.lease_seconds)
    mine = Lease.objects.filter(annotator=annotator, pair__study=study, pair__state=Pair.State.OPEN)
    held = list(mine.values_list("pk", "pair_id"))
    Lease.objects.filter(pk__in=[lease_id for lease_id, _ in held]).update(expires_at=expires_at)
    return {pair_id: expires_at for _, pair_id in held}


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
        lock_queue(pair.study_id)
        lock_pair(pair.pk)
        return _drop(Lease.objects.filter(pair=pair, annotator=annotator), pair_id=pair.pk)


def release_expired_leases(now: datetime | None = None, *, study: Study | None = None) -> int:
    """Give back every pair whose lease ran out before `now`; returns how many."""
    now = now or timezone.now()
    expired = Lease.objects.filter(expires_at__lt=now).order_by("pair_id")
    if study is not None:
        expired = expired.filter(pair__study=study)
    return sum(
        _release_if_expired(lease_id, pair_id=pair_id, study_id=study_id, now=now)
        for lease_id, pair_id, study_id in expired.values_list("pk", "pair_id", "pair__study_id")
    )


def take_free_slot(pair_id: int) -> bool:
    """Take a slot that is free, or one whose lease has run out, of a pair that the caller has locked."""
    if take_slot(pair_id):
        return True
    expired = Lease.objects.filter(pair_id=pair_id, expires_at__lt=timezone.now())
    lease = expired.filter(pair__state=Pair.State.OPEN).order_by("expires_at").first()
    if lease is not None:
        lease.delete()
    return lease is not None


def _leases_held(*, study: Study, annotator: User) -> QuerySet[Lease]:
    parts = [f"pair__{part}" for part in PAIR_PARTS]
    mine = Lease.objects.filter(annotator=annotator, pair__study=study, pair__state=Pair.State.OPEN)
    return mine.select_related("pair", *parts).order_by("created_at", "pk")


def _renew(lease: Lease, *, study: Study) -> LeasedPair:
    """Showing a pair starts its time anew, also when it had run out and nobody had taken the slot."""
    lease.expires_at = timezone.now() + timedelta(seconds=study.lease_seconds)
    lease.save(update_fields=["expires_at"])
    return LeasedPair(pair=lease.pair, left_side=Side(lease.left_side), expires_at=lease.expires_at)


def _take_turn(*, study: Study, annotator: User, beyond: int | None) -> _Turn:
    with transaction.atomic():
        lock_annotator(annotator)
        if Membership.objects.filter(study=study, user=annotator, is_paused=True).exists():
            return _Turn(None)
        held = list(_leases_held(study=study, annotator=annotator))
        waiting = [lease for lease in held if lease.pair_id != beyond]
        if waiting:
            return _Turn(_renew(waiting[0], study=study))
        if len(held) >= LEASES_PER_ANNOTATOR:
            return _Turn(None)
        lock_queue(study.pk, shared=True)
        pair = _claim_reserved(study=study, annotator=annotator) or _claim(study=study, annotator=annotator)
        if pair is None:
            move_cursors_to_end(study=study, annotator=annotator)
            return _Turn(None, ran_dry=True)
        return _Turn(hold_pair(pair=pair, annotator=annotator, study=study))


def _look_again(*, study: Study, annotator: User) -> bool:
    """Do what must be done before anyone is told that there is nothing; True when there may be something."""
    released = release_expired_leases(study=study)
    return sweep_queue(study=study, annotator=annotator) or bool(released)


def _claim_reserved(*, study: Study, annotator: User) -> Pair | None:
    """Take the slot of a pair that only this annotator is to judge, made now where one is due."""
    waiting = reserved_pairs(study=study, annotator=annotator).select_related(*PAIR_PARTS)
    pair = waiting.first() or due_check(study=study, annotator=annotator)
    return pair if pair is not None and take_slot(pair.pk) else None


def _claim(*, study: Study, annotator: User) -> Pair | None:
    """Take a slot of the first claimable pair beyond the annotator's cursor.

    Rows that others have locked are passed over first, and waited for when nothing else is left. The cursor
    moves to the pair; where rows were passed over, it stays before the first of them.
    """
    while (first := first_beyond_cursor(study=study, annotator=annotator)) is not None:
        pair = _lock_from(first, study=study, annotator=annotator)
        if pair is None:
            _wait_for(first, study=study)
        elif take_slot(pair.pk):
            last = pair.pk if pair.pk == first.pair_id else first.pair_id - 1
            move_cursor(
                study=study,
                annotator=annotator,
                priority=first.priority,
                order_key=first.order_key,
                pair_number=last,
            )
            return pair
    return None


def _lock_from(first: Place, *, study: Study, annotator: User) -> Pair | None:
    """Return the first pair from this place on that nobody is writing to, locked and with its texts."""
    rest = claimable_pairs(study=study, annotator=annotator).filter(
        priority=first.priority, order_key__gte=first.order_key
    )
    locked = rest.select_for_update(skip_locked=True, no_key=True, of=("self",))
    return locked.select_related(*PAIR_PARTS).first()


def _wait_for(first: Place, *, study: Study) -> None:
    free_pairs(study=study).filter(pk=first.pair_id).select_for_update(no_key=True).first()


def _release_if_expired(lease_id: int, *, pair_id: int, study_id: int, now: datetime) -> bool:
    with transaction.atomic():
        lock_queue(study_id)
        lock_pair(pair_id)
        return _drop(Lease.objects.filter(pk=lease_id, expires_at__lt=now), pair_id=pair_id)


def _drop(lease: QuerySet[Lease], *, pair_id: int) -> bool:
    deleted, _ = lease.delete()
    if deleted:
        give_slot_back(pair_id)
    return bool(deleted)
