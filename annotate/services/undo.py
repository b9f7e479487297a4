"""Taking back what an annotator did last. One that is sent again takes back nothing more."""

import uuid

from annotate.errors import LabelRefused, TakenBackAlready
from annotate.gate import write_transaction
from annotate.models import (
    Draft,
    Flag,
    Lease,
    Pair,
    Preference,
    PreferenceRevision,
    Side,
    Skip,
    Study,
    Undo,
    User,
)
from annotate.prepared import insert
from annotate.services.locks import lock_annotator, lock_queue
from annotate.services.preferences import drop_skip, keep_revision
from annotate.services.progress import add_labels
from annotate.services.queue import (
    PAIR_PARTS,
    LeasedPair,
    hold_first,
    lease_next_pair,
    lock_for_return,
    renew,
    take_free_slot,
)


def undo_preference(
    *, study: Study, annotator: User, client_id: uuid.UUID, pair_id: int | None = None
) -> LeasedPair | None:
    """Take back the annotator's latest label or skip in the study and hold its pair again, sides as before.

    With `pair_id` it is the label or skip of that pair, whatever was done since. The same `client_id` again
    takes back nothing more: the answer is the same pair, or, where they hold that no longer, what they hold
    now (None when there is nothing for them). A copy of what was taken back, arriving late, is refused.
    Raises LabelRefused when there is nothing to take back (TakenBackAlready: not any more), when the pair is
    not open, or when a colleague has taken the slot of a skipped pair meanwhile; such an undo is not
    remembered.
    """
    with write_transaction():
        lock_annotator(annotator)
        earlier = Undo.objects.select_related("pair").filter(client_id=client_id).first()
        if earlier is None:
            return _undo(study=study, annotator=annotator, client_id=client_id, pair_id=pair_id)
        still_held = _held_since(earlier, study=study, annotator=annotator)
    return still_held or lease_next_pair(study=study, annotator=annotator)


def _undo(*, study: Study, annotator: User, client_id: uuid.UUID, pair_id: int | None) -> LeasedPair:
    """Take one act back within the caller's transaction, which has locked the annotator."""
    last = _latest_act(study=study, annotator=annotator, pair_id=pair_id)
    lock_queue(study.pk)
    held = lock_for_return(last.pair_id, study=study, annotator=annotator)
    pair = Pair.objects.select_related("study", *PAIR_PARTS).get(pk=last.pair_id)
    _check_open(pair)
    _take_slot_for(last)
    insert(Undo(client_id=client_id, pair=pair, annotator=annotator, act_id=last.client_id))
    return hold_first(pair=pair, annotator=annotator, held=held, left_side=_take_back(last))


def _held_since(undo: Undo, *, study: Study, annotator: User) -> LeasedPair | None:
    """Return the pair that an earlier arrival of the undo brought back; None when it is not held any more."""
    if undo.annotator_id != annotator.pk or undo.pair.study_id != study.pk:
        raise LabelRefused("This undo belongs to another study or person; reload the page.")
    if study.state == Study.State.CLOSED:
        return None
    leases = Lease.objects.filter(pair=undo.pair_id, annotator=annotator, pair__state=Pair.State.OPEN)
    lease = leases.select_related("pair", *(f"pair__{part}" for part in PAIR_PARTS)).first()
    return renew(lease, study=study) if lease else None


def _latest_act(*, study: Study, annotator: User, pair_id: int | None) -> Preference | Skip:
    """Return the latest label or skip, of one pair where that is given; LabelRefused when there is none."""
    mine = {"pair__study": study, "annotator": annotator} | ({"pair": pair_id} if pair_id else {})
    label = Preference.objects.filter(**mine).order_by("-created_at", "-pk").first()
    skip = Skip.objects.filter(**mine).order_by("-created_at", "-pk").first()
    if label is not None and (skip is None or label.created_at >= skip.created_at):
        return label
    if skip is None:
        if pair_id:
            raise TakenBackAlready("You have taken that back already, here or elsewhere.")
        raise LabelRefused("There is nothing to undo.")
    return skip


def _check_open(pair: Pair) -> None:
    """Raise LabelRefused, saying why, when what was done on a pair stays as it is."""
    why = ""
    if pair.study.state == Study.State.CLOSED:
        why = "This study is closed"
    elif pair.state == Pair.State.FROZEN:
        why = "The labels of that round are frozen"
    elif pair.state == Pair.State.WITHDRAWN and pair.purpose == Pair.Purpose.PRACTICE:
        why = "That was practice, which has begun anew since"
    elif pair.state == Pair.State.WITHDRAWN:
        why = "The lead has withdrawn that pair"
    if why:
        raise LabelRefused(f"{why}; what you did last stays as it is.")


def _take_slot_for(last: Preference | Skip) -> None:
    """Take a slot for the pair that comes back; that of a label is its own."""
    if isinstance(last, Skip) and not take_free_slot(last.pair_id):
        raise LabelRefused("A colleague has taken the pair that you skipped; there is nothing to bring back.")


def _take_back(last: Preference | Skip) -> Side | None:
    mine = {"pair_id": last.pair_id, "annotator_id": last.annotator_id}
    if isinstance(last, Preference):
        keep_revision(last, action=PreferenceRevision.Action.UNDONE)
        if texts := _texts_as_shown(last):
            defaults = {"content": texts}
            Draft.objects.update_or_create(
                pair_id=last.pair_id, annotator_id=last.annotator_id, defaults=defaults
            )
        drop_skip(pair=last.pair, annotator=last.annotator, said_by=last.client_id)
    Flag.objects.filter(**mine, resolved_at__isnull=True).delete()
    last.delete()
    if isinstance(last, Preference) and last.pair.purpose != Pair.Purpose.PRACTICE:
        add_labels(-1, study_id=last.pair.study_id, annotator=last.annotator)
    return Side(last.shown_left) if last.shown_left else None


def _texts_as_shown(preference: Preference) -> dict[str, str]:
    """Return what a person wrote, so that taking a label back loses none of it."""
    texts = {"rationale": preference.rationale} if preference.rationale else {}
    if preference.edited_response is not None:
        is_left = preference.edited_side == preference.shown_left
        texts["edit_side"] = "left" if is_left else "right"
        texts["edit_text"] = preference.edited_response.text
    return texts
