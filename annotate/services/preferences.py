"""Recording and correcting one annotator's verdicts, and passing on pairs. Each is one short transaction."""

import uuid
from dataclasses import dataclass

from django.db import IntegrityError, connection

from annotate.errors import AlreadyLabelled, LabelRefused, VerdictNotAllowed
from annotate.gate import write_transaction
from annotate.models import (
    Lease,
    Pair,
    Preference,
    PreferenceRevision,
    Side,
    Skip,
    Study,
    Undo,
    User,
    Verdict,
)
from annotate.prepared import insert, prepare
from annotate.services.editing import Edit, store_edit
from annotate.services.locks import lock_annotator, lock_pair, lock_queue
from annotate.services.progress import add_labels
from annotate.services.queue import (
    LeasedPair,
    act_and_lease_next,
    take_free_slot,
)
from annotate.services.slots import give_slot_back

LONGEST_DURATION_MS = 24 * 3600 * 1000
# Before every version of a label.
OUT_OF_DATE = -1
# A label's version counts changes in the history in these, and in ones what its form says anew before it is
# answered: whatever the form says, it was begun on the label as it was before all changes in the history.
HISTORY_CHANGE = 100_000
_DROP_LEASE = f"""
DELETE FROM {Lease._meta.db_table} WHERE pair_id = %s AND annotator_id = %s
AND NOT EXISTS (SELECT 1 FROM {Undo._meta.db_table} WHERE act_id = %s)
"""
_label_on = prepare(lambda pair, annotator: Preference.objects.filter(pair_id=pair, annotator_id=annotator))


@dataclass(frozen=True)
class Judgement:
    """A verdict as it was submitted, in terms of the pair's stored responses.

    `shown_left` is what the person saw; None means the lease's side.
    """

    verdict: Verdict
    client_id: uuid.UUID
    shown_left: Side | None = None
    duration_ms: int | None = None
    strength: int | None = None
    rationale: str = ""
    edit: Edit | None = None
    version: int = 0


def record_preference(
    *,
    pair: Pair,
    annotator: User,
    verdict: Verdict,
    client_id: uuid.UUID,
    shown_left: Side | None = None,
    duration_ms: int | None = None,
    strength: int | None = None,
    rationale: str = "",
    edit: Edit | None = None,
    version: int = 0,
) -> Preference:
    """Record a verdict, in terms of the pair's stored responses; the lease's slot becomes the preference's.

    The same `client_id` again is the same judgement: nothing happens, or, where it says something else, it
    is corrected. It is refused when it was taken back, or, saying something else, when the label was changed
    since: by a later `version` of the form, by another one of the same number, or in the history. Without
    a lease (it ran out) the label is taken as long as a slot of the pair is free. `shown_left` is what the
    person saw; it defaults to the lease's side. Raises LabelRefused with a sentence when the label cannot be
    taken.
    """
    judgement = Judgement(verdict, client_id, shown_left, duration_ms, strength, rationale, edit, version)
    with write_transaction():
        lock_annotator(annotator)
        return _record(judgement, pair=pair, annotator=annotator)


def record_and_lease_next(
    judgement: Judgement, *, pair: Pair, annotator: User, study: Study, beyond: int | None = None
) -> tuple[Preference, LeasedPair | None]:
    """Record a verdict as `record_preference` does and hold the next pair, in one transaction."""
    return act_and_lease_next(
        lambda: _record(judgement, pair=pair, annotator=annotator),
        study=study,
        annotator=annotator,
        beyond=beyond,
    )


def skip_pair(*, pair: Pair, annotator: User, client_id: uuid.UUID | None = None) -> None:
    """Pass on a pair: unless undone, it never comes back to this annotator, and others may have it.

    Again it changes nothing; `client_id`, the form's, tells a copy that arrives after the skip was undone, or
    gave way to a label in another tab. Raises LabelRefused for such a copy, and when the pair is labelled.
    """
    with write_transaction():
        lock_annotator(annotator)
        lock_queue(pair.study_id)
        _skip(pair, annotator=annotator, client_id=client_id)


def skip_and_lease_next(
    *,
    pair: Pair,
    annotator: User,
    study: Study,
    client_id: uuid.UUID | None = None,
    beyond: int | None = None,
) -> LeasedPair | None:
    """Pass on a pair as `skip_pair` does and hold the next one, in one transaction."""
    _, leased = act_and_lease_next(
        lambda: _skip(pair, annotator=annotator, client_id=client_id),
        study=study,
        annotator=annotator,
        beyond=beyond,
        returns_a_pair=True,
    )
    return leased


def change_preference(
    *,
    pair: Pair,
    annotator: User,
    verdict: Verdict,
    strength: int | None = None,
    rationale: str = "",
    edit: Edit | None = None,
    stamp: str | None = None,
) -> Preference:
    """Let an annotator say something else of a pair they labelled, while its round is open.

    What was said before stays as a revision. `stamp` is that of the label which the person had before them.
    Raises LabelRefused when the label is another one by now and says something else, the round is frozen or
    the pair was never labelled by them.
    """
    with write_transaction():
        lock_annotator(annotator)
        pair = lock_pair(pair.pk)
        preference = Preference.objects.filter(pair=pair, annotator=annotator).first()
        if preference is None:
            raise LabelRefused("You have no label on this pair any more; there is nothing to change.")
        said = _Said(verdict, strength, rationale, edit)
        is_current = stamp in (None, preference.stamp)
        changes = preference.version // HISTORY_CHANGE + 1
        version = changes * HISTORY_CHANGE if is_current else OUT_OF_DATE
        return _correct(preference, pair=pair, said=said, version=version)


def _record(judgement: Judgement, *, pair: Pair, annotator: User) -> Preference:
    """Record a judgement within the caller's transaction, which has locked the annotator."""
    said = _Said(judgement.verdict, judgement.strength, judgement.rationale, judgement.edit)
    version = min(judgement.version, HISTORY_CHANGE - 1)
    pair = lock_pair(pair.pk)
    earlier = _earlier(pair=pair, annotator=annotator, client_id=judgement.client_id)
    if earlier is not None:
        return _correct(earlier, pair=pair, said=said, version=version)
    _check_open(pair, verdict=judgement.verdict)
    duration_ms = judgement.duration_ms
    preference = Preference(
        pair=pair,
        annotator=annotator,
        client_id=judgement.client_id,
        version=version,
        shown_left=_turn_lease_into_slot(judgement, pair=pair, annotator=annotator),
        duration_ms=duration_ms and min(duration_ms, LONGEST_DURATION_MS),
        guidelines_version=pair.study.guidelines_version,
        simulated_rule=annotator.simulated_rule,
    )
    _say(said, preference=preference, pair=pair)
    _insert(preference)
    keep_revision(preference, action=PreferenceRevision.Action.RECORDED)
    if pair.purpose != Pair.Purpose.PRACTICE:
        add_labels(1, study_id=pair.study_id, annotator=annotator)
    return preference


def refuse_if_taken_back(client_id: uuid.UUID | None) -> None:
    """Raise LabelRefused for a late copy of a form: the person has undone what it did."""
    if client_id is not None and Undo.objects.filter(act_id=client_id).exists():
        raise LabelRefused("You have taken this back already; reload the page to judge the pair anew.")


def never_again(act_id: uuid.UUID | None, *, pair: Pair, annotator: User) -> None:
    """Remember an act that does not count, so that a copy of it that comes late does nothing."""
    if act_id is not None and not Undo.objects.filter(act_id=act_id).exists():
        insert(Undo(pair=pair, annotator=annotator, act_id=act_id))


def drop_skip(*, pair: Pair, annotator: User, said_by: uuid.UUID) -> None:
    """Let a skip, if there is one, give way to the label of the form `said_by`."""
    skip = Skip.objects.filter(pair=pair, annotator=annotator).first()
    if skip is None:
        return
    skip.delete()
    if skip.client_id != said_by:  # else the form's own correction
        never_again(skip.client_id, pair=pair, annotator=annotator)


def _skip(pair: Pair, *, annotator: User, client_id: uuid.UUID | None) -> None:
    """Skip a pair within the caller's transaction, which has locked the annotator and the queue."""
    lock_pair(pair.pk)
    mine = {"pair": pair, "annotator": annotator}
    if Preference.objects.filter(**mine).exists():
        raise AlreadyLabelled("You have labelled this pair already; that label stands. Undo it to change it.")
    lease = Lease.objects.filter(**mine).first()
    skip = Skip.objects.filter(**mine).first()
    if skip is None:
        refuse_if_taken_back(client_id)
        shown_left = lease.left_side if lease else ""
        Skip.objects.create(**mine, shown_left=shown_left, client_id=client_id)
    elif client_id != skip.client_id:
        # Once this pair has come back, a copy of what was said in the second tab must not skip it either.
        never_again(client_id, pair=pair, annotator=annotator)
    if lease is not None:
        lease.delete()
        give_slot_back(pair.pk)


def _check_open(pair: Pair, *, verdict: Verdict) -> None:
    study = pair.study
    if pair.state == Pair.State.FROZEN:
        raise LabelRefused(
            "The labels of this round are frozen: training has begun. Your label was not taken."
        )
    if pair.state == Pair.State.WITHDRAWN:
        raise LabelRefused("This pair was withdrawn by the lead. Your label was not taken.")
    if study.state == Study.State.CLOSED:
        raise LabelRefused("This study is closed. Your label was not taken.")
    allowed = {Verdict.TIE: study.allow_tie, Verdict.BOTH_BAD: study.allow_both_bad}
    if not allowed.get(verdict, True):
        raise VerdictNotAllowed(f"This study does not offer “{verdict.label}”; choose another verdict.")


@dataclass(frozen=True)
class _Said:
    """What a person says of a pair."""

    verdict: Verdict
    strength: int | None
    rationale: str
    edit: Edit | None


def _say(said: _Said, *, preference: Preference, pair: Pair) -> bool:
    """Write what was said onto an unsaved or stored preference; True when it says something else now."""
    is_graded = pair.study.ask_strength and said.verdict in (Verdict.A, Verdict.B)
    edited = store_edit(said.edit, pair=pair) if said.edit else None
    fields = {
        "verdict": said.verdict,
        "strength": said.strength if is_graded else None,
        "rationale": said.rationale.strip(),
        "edited_response_id": edited.pk if edited else None,
        "edited_side": said.edit.side if said.edit else "",
    }
    differs = any(getattr(preference, name) != value for name, value in fields.items())
    for name, value in fields.items():
        setattr(preference, name, value)
    return differs


def _correct(preference: Preference, *, pair: Pair, said: _Said, version: int) -> Preference:
    known = preference.version
    preference.version = max(version, known)
    if not _say(said, preference=preference, pair=pair):
        if version > known:
            preference.save(update_fields=["version"])
        return preference
    # A form sent again without JavaScript has no number; two tabs may give the same one.
    if version < known or version == known > 0:
        raise AlreadyLabelled(
            "You have changed this label since; what it says now stands, this was not taken."
        )
    _check_open(pair, verdict=said.verdict)
    preference.save()
    keep_revision(preference, action=PreferenceRevision.Action.CHANGED)
    return preference


def _earlier(*, pair: Pair, annotator: User, client_id: uuid.UUID) -> Preference | None:
    """Return what the same form recorded before; refuses another form's label on the same pair."""
    earlier = _label_on.first(pair=pair.pk, annotator=annotator.pk)
    if earlier is not None and earlier.client_id != client_id:
        raise AlreadyLabelled("You have labelled this pair already; that label stands. Undo it to change it.")
    return earlier


def _insert(preference: Preference) -> None:
    try:
        insert(preference)
    except IntegrityError:
        raise LabelRefused("This form belongs to another pair or person; reload the page.") from None


def _turn_lease_into_slot(judgement: Judgement, *, pair: Pair, annotator: User) -> Side:
    """Make sure that one slot of the pair is this annotator's; return the side that stood on the left."""
    shown_left = judgement.shown_left
    if shown_left is None:
        leases = Lease.objects.filter(pair=pair, annotator=annotator)
        held = leases.values_list("left_side", flat=True).first()
        if held is None:
            raise LabelRefused("This pair is not held by you; open the labelling page to get your next one.")
        shown_left = Side(held)
    if _drop_lease(pair_id=pair.pk, annotator_id=annotator.pk, client_id=judgement.client_id):
        return shown_left
    refuse_if_taken_back(judgement.client_id)
    # Who passed on the pair in another tab holds it no longer, and has judged it now.
    drop_skip(pair=pair, annotator=annotator, said_by=judgement.client_id)
    if not take_free_slot(pair.pk):
        raise LabelRefused(
            "Your hold on this pair ran out and a colleague has it now. Your label was not taken; "
            "here is your next pair."
        )
    return shown_left


def _drop_lease(*, pair_id: int, annotator_id: int, client_id: uuid.UUID) -> bool:
    """Delete the lease, unless the form has been taken back: one statement, since every label needs it."""
    act_id = Undo._meta.get_field("act_id").get_db_prep_value(client_id, connection)
    with connection.cursor() as cursor:
        cursor.execute(_DROP_LEASE, [pair_id, annotator_id, act_id])
        return bool(cursor.rowcount)


def keep_revision(preference: Preference, *, action: PreferenceRevision.Action) -> None:
    """Write down what a preference says and what becomes of it."""
    insert(
        PreferenceRevision(
            pair_id=preference.pair_id,
            annotator_id=preference.annotator_id,
            action=action,
            verdict=preference.verdict,
            strength=preference.strength,
            rationale=preference.rationale,
            edited_response_id=preference.edited_response_id,
            edited_side=preference.edited_side,
            shown_left=preference.shown_left,
            duration_ms=preference.duration_ms,
            guidelines_version=preference.guidelines_version,
            simulated_rule=preference.simulated_rule,
        )
    )
