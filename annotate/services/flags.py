"""Telling the lead that something is wrong with a pair; and taking pairs back that were passed on."""

import uuid

from annotate.errors import LabelRefused
from annotate.gate import write_transaction
from annotate.models import Flag, Lease, Pair, Preference, Side, Skip, Undo, User
from annotate.prepared import insert
from annotate.services.locks import lock_annotator, lock_queue
from annotate.services.preferences import refuse_if_taken_back, skip_pair
from annotate.services.queue import PAIR_PARTS, LeasedPair, hold_first, lock_for_return, take_free_slot

LONGEST_NOTE = 2_000


def flag_pair(
    *,
    pair: Pair,
    annotator: User,
    reason: Flag.Reason,
    note: str = "",
    client_id: uuid.UUID | None = None,
) -> Flag:
    """Flag a pair; unless this person has labelled it, they pass on it too. Again: reason and note change.

    `client_id`, the form's, tells a copy that arrives after the flag was undone. Raises LabelRefused for such
    a copy, when the pair is neither held, labelled nor skipped by them, or a lead has dealt with their flag
    already.
    """
    note = note.strip()[:LONGEST_NOTE]
    with write_transaction():
        lock_annotator(annotator)
        mine = {"pair": pair, "annotator": annotator}
        flag = Flag.objects.filter(**mine).first() or Flag(**mine)
        is_labelled = Preference.objects.filter(**mine).exists()
        is_done = is_labelled or Skip.objects.filter(**mine).exists()
        if is_done and (flag.reason, flag.note, flag.resolved_at) == (reason, note, None):
            return flag  # a copy, and what it did stands
        refuse_if_taken_back(client_id)
        if not is_done and not Lease.objects.filter(**mine).exists():
            raise LabelRefused("This pair is not held by you any more. Your flag was not taken.")
        if flag.resolved_at is not None:
            raise LabelRefused("The lead has dealt with your flag on this pair already.")
        flag.reason, flag.note = reason, note
        flag.save()
        if not is_labelled:
            skip_pair(pair=pair, annotator=annotator, client_id=client_id)
        return flag


def withdraw_flag(*, pair: Pair, annotator: User) -> bool:
    """Take a flag back that no lead has dealt with yet; False when there is none."""
    with write_transaction():
        deleted, _ = Flag.objects.filter(pair=pair, annotator=annotator, resolved_at__isnull=True).delete()
    return bool(deleted)


def take_skipped_pair_back(*, pair: Pair, annotator: User) -> LeasedPair:
    """Hold a pair again that this person passed on, to be shown before everything else they hold.

    Raises LabelRefused when it was not skipped, its round is frozen, or colleagues have all of its slots.
    """
    with write_transaction():
        lock_annotator(annotator)
        lock_queue(pair.study_id)
        held = lock_for_return(pair.pk, study=pair.study, annotator=annotator)
        pair = Pair.objects.select_related("study", *PAIR_PARTS).get(pk=pair.pk)
        skip = _freed_skip(pair, annotator=annotator)
        insert(Undo(pair=pair, annotator=annotator, act_id=skip.client_id))
        skip.delete()
        withdraw_flag(pair=pair, annotator=annotator)
        left_side = Side(skip.shown_left) if skip.shown_left else None
        return hold_first(pair=pair, annotator=annotator, held=held, left_side=left_side)


def _freed_skip(pair: Pair, *, annotator: User) -> Skip:
    """Return the skip of a pair after taking a slot of it."""
    skip = Skip.objects.filter(pair=pair, annotator=annotator).first()
    if skip is None:
        raise LabelRefused("You have not skipped this pair; there is nothing to take back.")
    if pair.state != Pair.State.OPEN:
        raise LabelRefused("The labels of that round are frozen; the pair cannot come back.")
    if not take_free_slot(pair.pk):
        raise LabelRefused("Colleagues have taken the pair that you skipped; it cannot come back.")
    return skip
