"""Who judges what next: pairs are held by leases, and a lease takes one of its pair's slots.

Next = a pair reserved for this annotator, then highest priority, then order key, among the open pairs that
still want labels and that this annotator has not judged, held or skipped. An annotator holds at most
`LEASES_PER_ANNOTATOR` pairs: the one on the screen and the one fetched ahead of it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeVar

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from annotate.gate import write_transaction
from annotate.models import Lease, Pair, Response, Side, Study, User
from annotate.prepared import insert, prepare
from annotate.services.checks import Standing, due_check, standing_of
from annotate.services.cursors import move_cursors, move_cursors_to_end, sweep_queue
from annotate.services.locks import lock_annotator, lock_pair, lock_pairs, lock_queue
from annotate.services.search import Place, first_waiting, lock_first_from
from annotate.services.sides import choose_left_side
from annotate.services.slots import give_slot_back, take_slot

Result = TypeVar("Result")
LEASES_PER_ANNOTATOR = 2
PAIR_PARTS = ("prompt", "response_a", "response_b")

_leases_held = prepare(
    lambda study, annotator: (
        Lease.objects.filter(annotator_id=annotator, pair__study_id=study, pair__state=Pair.State.OPEN)
        .select_related("pair", *(f"pair__{part}" for part in PAIR_PARTS))
        .order_by("created_at", "pk")
    )
)
_pair_with_texts = prepare(lambda pair: Pair.objects.select_related(*PAIR_PARTS).filter(pk=pair))


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
    """What one look into the queue gave.

    `ran_dry` says that the queue has nothing for the annotator, `locked` that all it has is being written to:
    that pair by its id, and others perhaps.
    """

    leased: LeasedPair | None
    ran_dry: bool = False
    locked: int | None = None


class _AllLocked(Exception):
    """Whatever the queue has is being written to; `first` is the pair that would come first."""

    def __init__(self, first: int) -> None:
        super().__init__(first)
        self.first = first


def lease_next_pair(*, study: Study, annotator: User, beyond: int | None = None) -> LeasedPair | None:
    """Return the pair to show next, held for this annotator; None when there is none.

    Pairs that the annotator holds already come first, oldest lease first, so that a reload or a second tab
    shows the same one. `beyond` is the pair on the screen: the answer is another one, fetched ahead.
    """
    turn = _take_turn(study=study, annotator=annotator, beyond=beyond)
    return _insist(turn, study=study, annotator=annotator, beyond=beyond)


def act_and_lease_next(
    act: Callable[[], Result],
    *,
    study: Study,
    annotator: User,
    beyond: int | None = None,
    returns_a_pair: bool = False,
) -> tuple[Result, LeasedPair | None]:
    """Do what the annotator asks and hold their next pair, both in one transaction.

    `act` works within this transaction, with the annotator's and the queue's lock held (the latter alone when
    it `returns_a_pair`); what it raises undoes all of it. The rest is as for `lease_next_pair`.
    """
    with write_transaction():
        lock_annotator(annotator)
        lock_queue(study.pk, shared=not returns_a_pair)
        done = act()
        turn = _turn(study=study, annotator=annotator, beyond=beyond)
    return done, _insist(turn, study=study, annotator=annotator, beyond=beyond)


def renew(lease: Lease, *, study: Study) -> LeasedPair | None:
    """Show a held pair: its time starts anew, also when it had run out and nobody had taken the slot.

    None when the lease has gone since it was read: its pair was frozen, or a lead has released it.
    """
    expires_at = timezone.now() + timedelta(seconds=study.lease_seconds)
    if not Lease.objects.filter(pk=lease.pk).update(expires_at=expires_at):
        return None
    return LeasedPair(pair=lease.pair, left_side=Side(lease.left_side), expires_at=expires_at)


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
    expires_at = now + timedelta(seconds=study.lease_seconds)
    insert(
        Lease(
            pair=pair,
            annotator=annotator,
            left_side=side,
            created_at=acquired_at or now,
            expires_at=expires_at,
        )
    )
    return LeasedPair(pair=pair, left_side=side, expires_at=expires_at)


def lock_for_return(pair_id: int, *, study: Study, annotator: User) -> list[Lease]:
    """Lock a pair that is to come back to the annotator and those that they hold; return their other leases.

    Oldest first, and as they are once everything is locked. Should they hold the pair itself, it is given
    back. The caller has locked the annotator, so that they get no other pair meanwhile, and the queue.
    """
    mine = Lease.objects.filter(annotator=annotator, pair__study=study).order_by("created_at", "pk")
    lock_pairs(Pair.objects.filter(pk__in={pair_id, *mine.values_list("pair_id", flat=True)}))
    held = list(mine.all())
    for lease in held:
        if lease.pair_id == pair_id:
            lease.delete()
            give_slot_back(pair_id)
    return [lease for lease in held if lease.pair_id != pair_id]


def hold_first(
    *, pair: Pair, annotator: User, held: list[Lease], left_side: Side | None = None
) -> LeasedPair:
    """Hold a pair, whose slot the caller has taken, to be shown before those that the annotator holds.

    The newest leases go where there would be too many: the pair on the screen stays. `held` is what
    `lock_for_return` returned.
    """
    for lease in held[LEASES_PER_ANNOTATOR - 1 :]:
        lease.delete()
        give_slot_back(lease.pair_id)
    first = min([timezone.now(), *(lease.created_at for lease in held)])
    return hold_pair(
        pair=pair,
        annotator=annotator,
        study=pair.study,
        left_side=left_side,
        acquired_at=first - timedelta(microseconds=1),
    )


def release_lease(*, pair: Pair, annotator: User) -> bool:
    """Give a held pair back to the queue; False when it was not held."""
    with write_transaction():
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
        release_if_expired(lease_id, pair_id=pair_id, study_id=study_id, now=now)
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


def _take_turn(*, study: Study, annotator: User, beyond: int | None) -> _Turn:
    if study.state != Study.State.ACTIVE:
        return _Turn(None)
    with write_transaction():
        lock_annotator(annotator)
        return _turn(study=study, annotator=annotator, beyond=beyond)


def _turn(*, study: Study, annotator: User, beyond: int | None) -> _Turn:
    """Take a turn within the caller's transaction, which has locked the annotator."""
    standing = standing_of(study=study, annotator=annotator)
    if study.state != Study.State.ACTIVE or (standing is not None and standing.is_paused):
        return _Turn(None)
    held = _leases_held(study=study.pk, annotator=annotator.pk)
    for lease in held:
        if lease.pair_id != beyond and (leased := renew(lease, study=study)):
            return _Turn(leased)
    # At most the pair on the screen is held: there is room for another.
    lock_queue(study.pk, shared=True)
    try:
        pair = _claim(study=study, annotator=annotator, standing=standing)
    except _AllLocked as all_locked:
        return _Turn(None, locked=all_locked.first)
    if pair is None:
        move_cursors_to_end(study=study, annotator=annotator)
        return _Turn(None, ran_dry=True)
    return _Turn(hold_pair(pair=pair, annotator=annotator, study=study))


def _insist(turn: _Turn, *, study: Study, annotator: User, beyond: int | None) -> LeasedPair | None:
    """Return what a committed turn gave, or what others give after a wait or one look at everything."""
    looked_again = False
    while turn.leased is None:
        if turn.locked is not None:
            _wait_for_writer(turn.locked)
        elif turn.ran_dry and not looked_again:
            looked_again = True
            if not _look_again(study=study, annotator=annotator):
                break
        else:
            break
        turn = _take_turn(study=study, annotator=annotator, beyond=beyond)
    return turn.leased


def _wait_for_writer(pair_id: int) -> None:
    """Wait until nobody writes to a pair, with no pair in hand that others might wait for meanwhile."""
    with transaction.atomic():
        lock_pairs(Pair.objects.filter(pk=pair_id))


def _look_again(*, study: Study, annotator: User) -> bool:
    """Do what must be done before anyone is told that there is nothing; True when there may be something."""
    released = release_expired_leases(study=study)
    return sweep_queue(study=study, annotator=annotator) or bool(released)


def _claim(*, study: Study, annotator: User, standing: Standing | None) -> Pair | None:
    """Take a slot of the next pair: one reserved for the annotator, a check that is due, or the queue's."""
    waiting = first_waiting(study=study, annotator=annotator)
    if waiting.reserved is not None:
        return _take(waiting.reserved.pair_id)
    check = due_check(study=study, annotator=annotator, standing=standing)
    if check is not None:
        return _take(check.pk)
    return _claim_common(waiting.common, study=study, annotator=annotator)


def _claim_common(first: Place | None, *, study: Study, annotator: User) -> Pair | None:
    """Take a slot of the first pair of the common queue, and move the annotator's cursor to it.

    Rows that others have locked are passed over; _AllLocked is raised when nothing else is left. Where some
    were passed over the cursor stays before the first of them.
    """
    while first is not None:
        locked = lock_first_from(first, study=study, annotator=annotator)
        if locked is None:
            raise _AllLocked(first.pair_id)
        if pair := _take(locked):
            last = first if locked == first.pair_id else replace(first, pair_id=first.pair_id - 1)
            move_cursors([last], study=study, annotator=annotator)
            return pair
        first = first_waiting(study=study, annotator=annotator).common
    return None


def _take(pair_id: int) -> Pair | None:
    """Take a slot of a pair and return it with its texts; None when it has none left."""
    return _pair_with_texts.first(pair=pair_id) if take_slot(pair_id) else None


def release_if_expired(lease_id: int, *, pair_id: int, study_id: int, now: datetime) -> bool:
    """Give a pair back whose lease ran out before `now`; False when it was renewed or is gone."""
    with write_transaction():
        lock_queue(study_id)
        lock_pair(pair_id)
        return _drop(Lease.objects.filter(pk=lease_id, expires_at__lt=now), pair_id=pair_id)


def _drop(lease: QuerySet[Lease], *, pair_id: int) -> bool:
    deleted, _ = lease.delete()
    if deleted:
        give_slot_back(pair_id)
    return bool(deleted)
