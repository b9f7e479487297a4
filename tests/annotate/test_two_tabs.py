"""What one person does in two tabs, and what others do to their pairs at that moment."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.db.models import QuerySet
from django.test import Client
from django.urls import reverse

from annotate.errors import AlreadyLabelled, LabelRefused
from annotate.models import Flag, Lease, Pair, Preference, Side, Skip, Study, User, Verdict
from annotate.services import queue
from annotate.services.flags import flag_pair
from annotate.services.locks import lock_pairs
from annotate.services.pairs import freeze_batch
from annotate.services.practice import restart_practice
from annotate.services.preferences import record_preference, skip_pair
from annotate.services.review import withdraw_pair
from annotate.services.studies import set_study_state
from annotate.services.undo import undo_preference
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    make_user,
    next_pair,
    undo,
)
from tests.support.people import SCRIPT, page

pytestmark = pytest.mark.django_db


def undo_of(pair: Pair, annotator: User, client_id: uuid.UUID | None = None) -> None:
    undo_preference(
        study=pair.study, annotator=annotator, client_id=client_id or uuid.uuid4(), pair_id=pair.pk
    )


def test_a_pair_that_is_skipped_in_one_tab_and_labelled_in_the_other_is_labelled() -> None:
    study = make_study(labels_per_pair=2)
    ana = make_annotator(study)
    make_pair(study)
    pair = next_pair(study, ana).pair
    skip_pair(pair=pair, annotator=ana)
    label(pair, ana)
    assert not Skip.objects.exists()
    assert undo(study, ana).pair == pair
    with pytest.raises(LabelRefused, match="nothing to undo"):
        undo(study, ana)
    assert next_pair(study, ana).pair == pair
    assert_slots_add_up(study)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("is_labelled", [True, False])
def test_a_skip_beside_a_label_or_a_hold_keeps_nobody_from_going_on(is_labelled: bool, slots: int) -> None:
    study = make_study(labels_per_pair=slots)
    ana = make_annotator(study)
    make_pair(study)
    pair = next_pair(study, ana).pair
    if is_labelled:
        Skip.objects.create(pair=pair, annotator=ana)
        label(pair, ana)
    Skip.objects.get_or_create(pair=pair, annotator=ana)
    undo_of(pair, ana)
    assert not Skip.objects.exists()
    assert not Preference.objects.exists()
    assert Lease.objects.get().pair == pair
    assert_slots_add_up(study)


def test_a_hold_that_ends_while_its_pair_is_asked_for_gives_way_to_another_pair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = make_study()
    first, second = make_pair(study, priority=1, batch=1), make_pair(study, batch=2)
    ana = make_annotator(study)
    assert next_pair(study, ana).pair == first
    read = queue._leases_held

    def read_before_the_round_is_frozen(**values: int) -> list[Lease]:
        held = read(**values)
        freeze_batch(study=study, batch=1)
        return held

    monkeypatch.setattr(queue, "_leases_held", read_before_the_round_is_frozen)
    assert next_pair(study, ana).pair == second
    assert Lease.objects.get().pair == second


def test_an_undo_gives_no_slot_back_for_a_hold_that_has_ended_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = make_study(labels_per_pair=2)
    done = make_pair(study, priority=1, batch=1)
    make_pair(study, batch=2)
    make_pair(study, batch=2)
    ana, ben = make_annotator(study), make_annotator(study, "ben")
    label(done, ana)
    on_screen = next_pair(study, ana).pair
    label(next_pair(study, ana, beyond=on_screen.pk).pair, ben)

    def freeze_first(pairs: QuerySet[Pair]) -> None:
        freeze_batch(study=study, batch=2)
        lock_pairs(pairs)

    monkeypatch.setattr(queue, "lock_pairs", freeze_first)
    assert undo(study, ana).pair == done
    assert Pair.objects.filter(state=Pair.State.FROZEN).count() == 2
    assert_slots_add_up(study)


def test_an_undo_that_is_sent_again_to_a_study_that_was_closed_brings_nothing() -> None:
    study = make_study()
    pair, client_id = make_pair(study), uuid.uuid4()
    ana = make_annotator(study)
    label(pair, ana)
    undo(study, ana, client_id=client_id)
    set_study_state(study=study, state=Study.State.CLOSED, actor=make_user("lead"))
    study.refresh_from_db()
    assert undo_preference(study=study, annotator=ana, client_id=client_id) is None


def test_an_undo_that_is_refused_says_what_became_of_the_pair() -> None:
    study = make_study()
    ana, lead = make_annotator(study), make_user("lead")
    frozen, withdrawn, practised, closed = [make_pair(study, batch=batch) for batch in (1, 2, 3, 4)]
    Pair.objects.filter(pk=practised.pk).update(purpose=Pair.Purpose.PRACTICE, reserved_for=ana)
    for pair in (frozen, withdrawn, practised, closed):
        label(pair, ana)
    freeze_batch(study=study, batch=1)
    withdraw_pair(pair=withdrawn, actor=lead)
    restart_practice(study=study, annotator=ana)
    for pair, why in (
        (frozen, "are frozen"),
        (withdrawn, "withdrawn that pair"),
        (practised, "was practice"),
    ):
        with pytest.raises(LabelRefused, match=f"{why}.*; what you did last stays as it is"):
            undo_of(pair, ana)
    set_study_state(study=study, state=Study.State.CLOSED, actor=lead)
    with pytest.raises(LabelRefused, match="study is closed"):
        undo_of(closed, ana)


def test_an_undo_of_what_was_taken_back_elsewhere_is_told_apart(
    client: Client, study: Study, ana: User
) -> None:
    pair, other = make_pairs(study, 2)
    label(other, ana)
    label(pair, ana)
    undo(study, ana)
    url, fields = reverse("label-undo", args=[study.slug]), {"pair": str(pair.pk)}
    answer = client.post(url, fields, headers=SCRIPT)
    assert (answer.status_code, "taken that back already" in answer.content.decode()) == (410, True)
    assert Preference.objects.get().pair == other


def test_an_undo_without_javascript_says_which_pair_is_shown(client: Client, study: Study, ana: User) -> None:
    url, client_id = reverse("label-undo", args=[study.slug]), str(uuid.uuid4())
    pair, other = make_pair(study, priority=1), make_pair(study)
    label(pair, ana)

    def told() -> str:
        return client.post(url, {"client_id": client_id, "pair": str(pair.pk)}, follow=True).content.decode()

    assert "here is the pair again" in told()
    label(pair, ana)
    assert "here is the pair that you hold now" in told()
    label(other, ana)
    assert "there is no pair for you now" in told()


def test_a_flag_without_javascript_is_known_again_once_it_was_taken_back(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    page(client, study)
    url = reverse("label-flag", args=[study.slug, pair.pk])
    client_id = client.get(url).content.decode().split('name="client_id" value="')[1].split('"')[0]
    fields = {"client_id": client_id, "reason": "broken"}
    for expected in (1, 0):
        client.post(url, fields)
        assert Skip.objects.count() == expected
        if expected:
            undo(study, ana)


def pass_on(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    skip_pair(pair=pair, annotator=annotator, client_id=client_id)


def flag_and_pass_on(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    flag_pair(pair=pair, annotator=annotator, reason=Flag.Reason.BROKEN, client_id=client_id)


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("act", [pass_on, flag_and_pass_on])
def test_a_copy_of_a_skip_that_gave_way_to_a_label_which_was_undone_does_not_skip_again(
    act: Callable[[Pair, User, uuid.UUID], None], slots: int
) -> None:
    study = make_study(labels_per_pair=slots)
    ana, client_id = make_annotator(study), uuid.uuid4()
    make_pair(study)
    pair = next_pair(study, ana).pair
    act(pair, ana, client_id)
    label(pair, ana)
    undo(study, ana)
    with pytest.raises(LabelRefused, match="taken this back already"):
        act(pair, ana, client_id)
    assert not Skip.objects.exists()
    assert Lease.objects.get().pair == pair
    pass_on(pair, ana, uuid.uuid4())
    assert Skip.objects.exists()
    assert_slots_add_up(study)


@pytest.mark.parametrize("act", [pass_on, flag_and_pass_on])
def test_a_copy_of_the_second_of_two_skips_does_not_skip_once_the_pair_is_back(
    act: Callable[[Pair, User, uuid.UUID], None],
) -> None:
    study = make_study()
    ana, second = make_annotator(study), uuid.uuid4()
    make_pair(study)
    pair = next_pair(study, ana).pair
    pass_on(pair, ana, uuid.uuid4())
    for _ in range(3):
        act(pair, ana, second)
    undo(study, ana)
    with pytest.raises(LabelRefused, match="taken this back already"):
        act(pair, ana, second)
    assert Lease.objects.get().pair == pair
    assert_slots_add_up(study)


def test_a_copy_of_a_flag_beside_a_label_given_elsewhere_changes_nothing(study: Study, ana: User) -> None:
    make_pair(study)
    pair, client_id = next_pair(study, ana).pair, uuid.uuid4()
    flag_and_pass_on(pair, ana, client_id)
    label(pair, ana)
    flag_and_pass_on(pair, ana, client_id)
    assert (Flag.objects.count(), Preference.objects.count(), Skip.objects.count()) == (1, 1, 0)


def test_a_form_that_says_a_label_instead_of_its_skip_may_correct_that_too(study: Study, ana: User) -> None:
    make_pair(study)
    pair, client_id = next_pair(study, ana).pair, uuid.uuid4()
    pass_on(pair, ana, client_id)
    for version, verdict in enumerate((Verdict.A, Verdict.TIE), start=1):
        said = {"verdict": verdict, "version": version, "shown_left": Side.A}
        record_preference(pair=pair, annotator=ana, client_id=client_id, **said)  # type: ignore[arg-type]
    with pytest.raises(AlreadyLabelled):
        pass_on(pair, ana, client_id)
    assert Preference.objects.get().verdict == Verdict.TIE
    undo(study, ana)
    with pytest.raises(LabelRefused, match="taken this back already"):
        pass_on(pair, ana, client_id)
    assert_slots_add_up(study)
