"""What goes with a verdict: grades, rationales, edits; and saying something else while the round is open."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.errors import AlreadyLabelled, LabelRefused
from annotate.models import Pair, Preference, PreferenceRevision, Response, Side, Study, User, Verdict
from annotate.services.editing import LONGEST_EDIT, Edit, store_edit
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import change_preference, record_preference
from tests.support.labelling import label, make_annotator, make_pair, make_study, next_pair, undo

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")


@pytest.fixture
def pair(study: Study) -> Pair:
    return make_pair(study, texts=("  one\ntwo ", "other"))


def record(pair: Pair, annotator: User, **said: object) -> Preference:
    arguments = {"verdict": Verdict.A, "client_id": uuid.uuid4(), "shown_left": Side.A, **said}
    return record_preference(pair=pair, annotator=annotator, **arguments)  # type: ignore[arg-type]


def test_an_edit_becomes_a_response_of_its_own(pair: Pair, ana: User) -> None:
    preference = record(pair, ana, edit=Edit(side=Side.B, text="better\r\nwords\n"))
    assert preference.edited_response
    assert (preference.edited_side, preference.edited_response.text) == ("b", "better\nwords")
    assert preference.edited_response.prompt_id == pair.prompt_id
    assert preference.edited_response_id not in (pair.response_a_id, pair.response_b_id)
    revision = PreferenceRevision.objects.get()
    assert (revision.edited_response_id, revision.edited_side) == (preference.edited_response_id, "b")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "cannot be empty"),
        (" \n ", "cannot be empty"),
        ("one\ntwo", "says the same as before"),
        ("  one\r\ntwo ", "says the same as before"),
        ("x" * (LONGEST_EDIT + 1), "40,001 characters; 40,000 are possible"),
    ],
)
def test_an_edit_that_is_none_is_refused_and_nothing_is_written(
    pair: Pair, ana: User, text: str, sentence: str
) -> None:
    with pytest.raises(LabelRefused, match=sentence):
        record(pair, ana, edit=Edit(side=Side.A, text=text))
    assert not Preference.objects.exists()
    assert Response.objects.count() == 2


def test_a_study_without_edits_refuses_them(pair: Pair, ana: User) -> None:
    Study.objects.update(allow_edit=False)
    with pytest.raises(LabelRefused, match="takes no edits"):
        record(pair, ana, edit=Edit(side=Side.A, text="better"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.text(max_size=60))
def test_a_stored_edit_is_never_empty_and_never_the_original(pair: Pair, text: str) -> None:
    pair.refresh_from_db()
    try:
        stored = store_edit(Edit(side=Side.A, text=text), pair=pair)
    except LabelRefused:
        return
    assert stored.text.strip()
    assert stored.text != pair.response_a.text.strip()


def test_the_same_submit_twice_stores_one_edit(pair: Pair, ana: User) -> None:
    same = uuid.uuid4()
    for _ in range(2):
        record(pair, ana, client_id=same, edit=Edit(side=Side.B, text="better"), rationale="why")
    assert Response.objects.count() == 3
    assert PreferenceRevision.objects.count() == 1


def test_a_grade_is_kept_for_a_side_only_and_only_where_asked(study: Study, ana: User) -> None:
    assert record(make_pair(study), ana, strength=3).strength is None
    Study.objects.update(ask_strength=True)
    assert record(make_pair(study), ana, strength=3).strength == 3
    assert record(make_pair(study), ana, strength=3, verdict=Verdict.TIE).strength is None


def test_a_changed_label_keeps_what_was_said_before(pair: Pair, ana: User) -> None:
    record(pair, ana, rationale="first")
    change_preference(pair=pair, annotator=ana, verdict=Verdict.TIE, rationale="second")
    change_preference(pair=pair, annotator=ana, verdict=Verdict.TIE, rationale="second")
    assert Preference.objects.get().verdict == "tie"
    revisions = PreferenceRevision.objects.values_list("action", "verdict", "rationale")
    assert list(revisions) == [("recorded", "a", "first"), ("changed", "tie", "second")]


def test_a_frozen_label_cannot_be_changed(study: Study, ana: User) -> None:
    pair = make_pair(study, batch=3)
    label(pair, ana)
    freeze_batch(study=study, batch=3)
    with pytest.raises(LabelRefused, match="frozen"):
        change_preference(pair=pair, annotator=ana, verdict=Verdict.B)
    assert Preference.objects.get().verdict == "a"


def test_nobody_changes_a_label_of_somebody_else(study: Study, pair: Pair, ana: User) -> None:
    label(pair, ana)
    with pytest.raises(LabelRefused, match="no label on this pair"):
        change_preference(pair=pair, annotator=make_annotator(study, "ben"), verdict=Verdict.B)


def test_undo_keeps_what_was_written_as_a_draft(study: Study, pair: Pair, ana: User) -> None:
    leased = next_pair(study, ana)
    record(
        pair, ana, shown_left=leased.left_side, rationale="why", edit=Edit(side=Side.B, text="better words")
    )
    undo(study, ana)
    side = "left" if leased.left_side == Side.B else "right"
    assert pair.drafts.get().content == {"rationale": "why", "edit_side": side, "edit_text": "better words"}


def test_a_copy_of_a_label_that_arrives_after_a_change_leaves_the_change(pair: Pair, ana: User) -> None:
    client_id = uuid.uuid4()
    record(pair, ana, client_id=client_id)
    change_preference(pair=pair, annotator=ana, verdict=Verdict.B)
    with pytest.raises(LabelRefused, match="changed this label since"):
        record(pair, ana, client_id=client_id)
    assert Preference.objects.get().verdict == Verdict.B
    assert record(pair, ana, client_id=client_id, verdict=Verdict.B).verdict == Verdict.B
    assert PreferenceRevision.objects.count() == 2


def test_of_the_copies_of_one_form_the_latest_version_counts_in_whatever_order_they_arrive(
    pair: Pair, ana: User
) -> None:
    client_id = uuid.uuid4()
    record(pair, ana, client_id=client_id, verdict=Verdict.A)
    record(pair, ana, client_id=client_id, verdict=Verdict.A, version=2)
    with pytest.raises(LabelRefused, match="changed this label since"):
        record(pair, ana, client_id=client_id, verdict=Verdict.TIE, version=1)
    record(pair, ana, client_id=client_id, verdict=Verdict.B, version=3)
    with pytest.raises(LabelRefused, match="changed this label since"):
        record(pair, ana, client_id=client_id, verdict=Verdict.A)
    assert (Preference.objects.get().verdict, Preference.objects.get().version) == (Verdict.B, 3)


@pytest.mark.parametrize("version", [1, 2, 7, 10**9])
def test_however_often_a_form_was_corrected_unsent_a_change_in_the_history_stands(
    pair: Pair, ana: User, version: int
) -> None:
    client_id = uuid.uuid4()
    record(pair, ana, client_id=client_id)
    change_preference(pair=pair, annotator=ana, verdict=Verdict.B)
    with pytest.raises(AlreadyLabelled, match="changed this label since"):
        record(pair, ana, client_id=client_id, verdict=Verdict.TIE, version=version)
    assert record(pair, ana, client_id=client_id, verdict=Verdict.B, version=version).verdict == Verdict.B
    change_preference(pair=pair, annotator=ana, verdict=Verdict.TIE, stamp=Preference.objects.get().stamp)
    assert Preference.objects.get().verdict == Verdict.TIE
    assert PreferenceRevision.objects.count() == 3


def test_a_change_in_the_history_of_what_a_form_has_corrected_meanwhile_is_refused(
    pair: Pair, ana: User
) -> None:
    client_id = uuid.uuid4()
    stamp = record(pair, ana, client_id=client_id).stamp
    record(pair, ana, client_id=client_id, verdict=Verdict.TIE, version=1)
    with pytest.raises(AlreadyLabelled, match="changed this label since"):
        change_preference(pair=pair, annotator=ana, verdict=Verdict.B, stamp=stamp)
    assert Preference.objects.get().verdict == Verdict.TIE


def test_of_two_corrections_of_the_same_number_the_first_stands(pair: Pair, ana: User) -> None:
    client_id = uuid.uuid4()
    for _ in range(2):
        record(pair, ana, client_id=client_id, verdict=Verdict.B, version=1)
    with pytest.raises(AlreadyLabelled, match="changed this label since"):
        record(pair, ana, client_id=client_id, verdict=Verdict.TIE, version=1)
    assert Preference.objects.get().verdict == Verdict.B


def test_a_form_that_counts_nothing_corrects_what_it_said(pair: Pair, ana: User) -> None:
    client_id = uuid.uuid4()
    for verdict in (Verdict.A, Verdict.TIE):
        record(pair, ana, client_id=client_id, verdict=verdict)
    assert Preference.objects.get().verdict == Verdict.TIE
