"""Recording and correcting labels, and passing on pairs."""

from __future__ import annotations

import uuid

import pytest

from annotate.errors import AlreadyLabelled, LabelRefused, VerdictNotAllowed
from annotate.models import Lease, Pair, Preference, PreferenceRevision, Side, Skip, Study, Verdict
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import record_preference, skip_and_lease_next, skip_pair
from annotate.services.queue import release_lease
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    make_user,
    next_pair,
)

pytestmark = pytest.mark.django_db


def test_a_label_keeps_what_was_shown_and_by_which_guidelines() -> None:
    study = make_study()
    make_pair(study)
    ana = make_annotator(study)
    leased = next_pair(study, ana)
    preference = record_preference(
        pair=leased.pair, annotator=ana, verdict=Verdict.B, client_id=uuid.uuid4(), duration_ms=1200
    )
    assert preference.shown_left == leased.left_side
    assert (preference.duration_ms, preference.guidelines_version, preference.simulated_rule) == (1200, 1, "")
    assert not Lease.objects.exists()
    assert_slots_add_up(study)


def test_a_double_submit_is_one_label() -> None:
    study = make_study()
    pair = make_pair(study)
    ana = make_annotator(study)
    next_pair(study, ana)
    client_id = uuid.uuid4()
    labels = [
        record_preference(pair=pair, annotator=ana, verdict=Verdict.A, client_id=client_id) for _ in range(3)
    ]
    assert len({preference.pk for preference in labels}) == 1
    assert PreferenceRevision.objects.count() == 1
    assert_slots_add_up(study)


def test_the_same_form_with_another_verdict_corrects_the_label_and_keeps_the_first() -> None:
    study = make_study()
    pair = make_pair(study)
    ana = make_annotator(study)
    next_pair(study, ana)
    client_id = uuid.uuid4()
    for verdict in (Verdict.A, Verdict.TIE):
        record_preference(pair=pair, annotator=ana, verdict=verdict, client_id=client_id)
    assert Preference.objects.get().verdict == Verdict.TIE
    assert list(PreferenceRevision.objects.values_list("verdict", "action")) == [
        ("a", "recorded"),
        ("tie", "changed"),
    ]


def test_a_form_of_somebody_else_is_refused() -> None:
    study = make_study(labels_per_pair=2)
    pair = make_pair(study)
    client_id = uuid.uuid4()
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    next_pair(study, ana), next_pair(study, ben)
    record_preference(pair=pair, annotator=ana, verdict=Verdict.A, client_id=client_id)
    with pytest.raises(LabelRefused, match="another pair or person"):
        record_preference(pair=pair, annotator=ben, verdict=Verdict.B, client_id=client_id)


def test_second_label_by_same_annotator_is_refused_and_the_first_stands() -> None:
    study = make_study(labels_per_pair=2)
    pair = make_pair(study)
    ana = make_annotator(study)
    label(pair, ana, Verdict.A)
    with pytest.raises(AlreadyLabelled):
        label(pair, ana, Verdict.B)
    assert Preference.objects.get().verdict == Verdict.A
    assert_slots_add_up(study)


def test_a_label_after_its_lease_ran_out_is_taken_while_the_slot_is_free() -> None:
    study = make_study()
    ana = make_annotator(study)
    pair = make_pair(study)
    leased = next_pair(study, ana)
    release_lease(pair=pair, annotator=ana)
    label(pair, ana, Verdict.B, side=leased.left_side)
    assert Preference.objects.get().verdict == Verdict.B
    assert_slots_add_up(study)


def test_a_label_whose_slot_went_to_a_colleague_is_refused() -> None:
    study = make_study()
    pair = make_pair(study)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    next_pair(study, ana)
    release_lease(pair=pair, annotator=ana)
    next_pair(study, ben)
    with pytest.raises(LabelRefused, match="a colleague has it now"):
        label(pair, ana)
    assert not Preference.objects.exists()
    assert_slots_add_up(study)


def test_a_label_without_lease_and_without_what_was_shown_is_refused() -> None:
    study = make_study()
    pair = make_pair(study)
    with pytest.raises(LabelRefused, match="not held by you"):
        label(pair, make_annotator(study), side=None)
    assert_slots_add_up(study)


def test_labels_of_a_frozen_round_are_refused_but_a_retry_of_a_saved_one_is_not() -> None:
    study = make_study()
    pair, other = make_pairs(study, 2)
    ana = make_annotator(study)
    client_id = uuid.uuid4()
    record_preference(pair=pair, annotator=ana, verdict=Verdict.A, client_id=client_id, shown_left=Side.A)
    freeze_batch(study=study, batch=1)
    record_preference(pair=pair, annotator=ana, verdict=Verdict.A, client_id=client_id)
    with pytest.raises(LabelRefused, match="frozen"):
        record_preference(pair=pair, annotator=ana, verdict=Verdict.B, client_id=client_id)
    with pytest.raises(LabelRefused, match="frozen"):
        label(other, ana)
    assert Preference.objects.get().verdict == Verdict.A


def test_withdrawn_pairs_and_closed_studies_take_no_labels() -> None:
    study = make_study()
    pair, other = make_pairs(study, 2)
    ana = make_annotator(study)
    Pair.objects.filter(pk=pair.pk).update(state=Pair.State.WITHDRAWN)
    with pytest.raises(LabelRefused, match="withdrawn"):
        label(pair, ana)
    Study.objects.update(state=Study.State.CLOSED)
    with pytest.raises(LabelRefused, match="closed"):
        label(other, ana)


@pytest.mark.parametrize(
    ("field", "verdict"), [("allow_tie", Verdict.TIE), ("allow_both_bad", Verdict.BOTH_BAD)]
)
def test_a_verdict_that_the_study_does_not_offer_is_refused(field: str, verdict: Verdict) -> None:
    study = make_study()
    Study.objects.update(**{field: False})
    with pytest.raises(VerdictNotAllowed):
        label(make_pair(study), make_annotator(study), verdict)
    assert_slots_add_up(study)


def test_a_simulated_annotators_label_says_so() -> None:
    study = make_study()
    robot = make_user("robot", simulated_rule="shorter")
    assert label(make_pair(study), robot).simulated_rule == "shorter"
    assert PreferenceRevision.objects.get().simulated_rule == "shorter"


def test_a_labelled_pair_cannot_be_skipped() -> None:
    study = make_study()
    pair = make_pair(study)
    ana = make_annotator(study)
    label(pair, ana)
    with pytest.raises(AlreadyLabelled):
        skip_pair(pair=pair, annotator=ana)
    assert_slots_add_up(study)


def test_a_skip_that_arrives_again_does_nothing_more() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 3)
    ana, client_id = make_annotator(study), uuid.uuid4()
    pair = next_pair(study, ana).pair
    shown = set()
    for _ in range(2):
        after = skip_and_lease_next(pair=pair, annotator=ana, study=study, client_id=client_id)
        assert after is not None
        shown.add(after.pair)
    assert Skip.objects.get().pair == pair
    assert {Lease.objects.get().pair} == shown
    assert pair not in shown
    assert_slots_add_up(study)
