"""What a lead does with flags, pairs and the leases of others. Each act leaves an audit entry."""

from django.utils import timezone

from annotate.errors import ReviewRefused
from annotate.gate import write_transaction
from annotate.models import Flag, Lease, Membership, Pair, Preference, Role, Skip, User
from annotate.services.audit import record_audit
from annotate.services.locks import lock_annotator, lock_pair, lock_queue
from annotate.services.queue import LEASES_PER_ANNOTATOR, hold_pair, release_lease
from annotate.services.slots import put_beyond_cursors, take_slot


def answer_flag(*, flag: Flag, answer: str, actor: User) -> None:
    """Close a flag with what its author is told."""
    with write_transaction():
        Flag.objects.filter(pk=flag.pk).update(
            answer=answer.strip()[:2000], resolved_at=timezone.now(), resolved_by=actor
        )
        _audit(flag.pair, actor=actor, action="flag.resolved", flag=flag.pk)


def reopen_flag(*, flag: Flag, actor: User) -> None:
    """Put an answered flag back among those that wait."""
    with write_transaction():
        Flag.objects.filter(pk=flag.pk).update(resolved_at=None, resolved_by=None)
        _audit(flag.pair, actor=actor, action="flag.reopened", flag=flag.pk)


def withdraw_pair(*, pair: Pair, actor: User) -> None:
    """Take a pair out of the queue and of every training set to come; its labels are kept.

    Raises ReviewRefused for a frozen pair: its round was trained on it.
    """
    with write_transaction():
        lock_queue(pair.study_id)
        locked = lock_pair(pair.pk)
        if locked.state == Pair.State.FROZEN:
            raise ReviewRefused(
                f"Pair {pair.pk} is frozen, its round has been trained. Leave it out instead; "
                "that holds for the training sets to come."
            )
        if locked.state == Pair.State.WITHDRAWN:
            return
        for lease in Lease.objects.select_related("annotator").filter(pair=locked):
            release_lease(pair=locked, annotator=lease.annotator)
        Pair.objects.filter(pk=pair.pk).update(state=Pair.State.WITHDRAWN)
        _audit(pair, actor=actor, action="pair.withdrawn")


def restore_pair(*, pair: Pair, actor: User) -> None:
    """Put a withdrawn pair back into the queue."""
    with write_transaction():
        lock_queue(pair.study_id)
        lock_pair(pair.pk)
        restored = Pair.objects.filter(pk=pair.pk, state=Pair.State.WITHDRAWN)
        if restored.update(state=Pair.State.OPEN):
            put_beyond_cursors(Pair.objects.filter(pk=pair.pk))
            _audit(pair, actor=actor, action="pair.restored")


def release_by_lead(*, lease: Lease, actor: User) -> bool:
    """Give somebody's held pair back to the queue; what they submit later is taken while a slot is free."""
    with write_transaction():
        released = release_lease(pair=lease.pair, annotator=lease.annotator)
        if released:
            _audit(lease.pair, actor=actor, action="lease.released", annotator=lease.annotator.username)
    return released


def reassign_lease(*, lease: Lease, to: User, actor: User) -> None:
    """Hand a held pair to another annotator, who gets it before anything else.

    Raises ReviewRefused when that person cannot have it: no annotator of the study, paused, has judged or
    passed on it, holds it, or holds as many pairs as one may.
    """
    with write_transaction():
        lock_annotator(to)
        lock_queue(lease.pair.study_id)
        pair = lock_pair(lease.pair_id)
        if reason := _cannot_take(pair, annotator=to):
            raise ReviewRefused(f"{to.display_name} {reason}.")
        if not release_lease(pair=pair, annotator=lease.annotator) or not take_slot(pair.pk):
            raise ReviewRefused("The pair is not held any more; reload the page.")
        hold_pair(pair=pair, annotator=to, study=pair.study)
        names = {"from": lease.annotator.username, "to": to.username}
        _audit(pair, actor=actor, action="lease.reassigned", **names)


def _cannot_take(pair: Pair, *, annotator: User) -> str:
    member = Membership.objects.filter(study=pair.study_id, user=annotator).exclude(role=Role.VIEWER).first()
    mine = {"pair": pair, "annotator": annotator}
    held = Lease.objects.filter(annotator=annotator, pair__study=pair.study_id).count()
    reasons = {
        "labels nothing in this study": member is None,
        "is paused; resume them first": member is not None and member.is_paused,
        "may not see a pair that is reserved for somebody else": pair.reserved_for_id is not None,
        "has judged this pair already": Preference.objects.filter(**mine).exists(),
        "has passed on this pair": Skip.objects.filter(**mine).exists(),
        "holds this pair already": Lease.objects.filter(**mine).exists(),
        f"holds {held} pairs already, as many as one may": held >= LEASES_PER_ANNOTATOR,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


def _audit(pair: Pair, *, actor: User, action: str, **details: object) -> None:
    record_audit(study=pair.study, actor=actor, action=action, details={"pair": pair.pk, **details})
