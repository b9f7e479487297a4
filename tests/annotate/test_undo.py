"""Taking back what was done last: step by step, and once however often the undo or the act arrives."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest
from django.test import Client
from django.urls import reverse

from annotate.errors import LabelRefused
from annotate.models import (
    Flag,
    Lease,
    Pair,
    Preference,
    PreferenceRevision,
    Skip,
    Study,
    Undo,
    User,
    Verdict,
)
from annotate.services.flags import flag_pair, take_skipped_pair_back
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import record_preference, skip_pair
from annotate.services.queue import lease_next_pair
from annotate.services.undo import undo_preference
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    next_pair,
    undo,
)
from tests.support.people import SCRIPT, client_of, judge, judge_url, judgement, page, shown_pair

pytestmark = pytest.mark.django_db


def label_next(study: Study, annotator: User, *, count: int) -> list[Pair]:
    """Label so many pairs as they come; return them in order."""
    done = []
    for _ in range(count):
        leased = next_pair(study, annotator)
        label(leased.pair, annotator, side=leased.left_side)
        done.append(leased.pair)
    return done


def test_undo_brings_the_pair_back_first_and_with_the_same_sides() -> None:
    study = make_study()
    make_pairs(study, 4)
    ana = make_annotator(study)
    first = next_pair(study, ana)
    next_pair(study, ana, beyond=first.pair.pk)
    label(first.pair, ana, side=first.left_side)
    second = next_pair(study, ana)
    next_pair(study, ana, beyond=second.pair.pk)
    back = undo(study, ana)
    assert (back.pair, back.left_side) == (first.pair, first.left_side)
    assert next_pair(study, ana).pair == first.pair
    assert next_pair(study, ana, beyond=first.pair.pk).pair == second.pair
    assert Lease.objects.filter(annotator=ana).count() == 2
    assert not Preference.objects.exists()
    assert_slots_add_up(study)


def test_undo_goes_back_step_by_step() -> None:
    study = make_study()
    make_pairs(study, 5)
    ana = make_annotator(study)
    done = []
    for _ in range(3):
        leased = next_pair(study, ana)
        label(leased.pair, ana, side=leased.left_side)
        done.append(leased.pair)
    assert [undo(study, ana).pair for _ in range(3)] == done[::-1]
    with pytest.raises(LabelRefused, match="nothing to undo"):
        undo(study, ana)
    assert next_pair(study, ana).pair == done[0]
    assert_slots_add_up(study)


def test_an_undone_label_stays_in_the_revisions() -> None:
    study = make_study()
    ana = make_annotator(study)
    label(make_pair(study), ana, Verdict.TIE)
    undo(study, ana)
    assert list(PreferenceRevision.objects.values_list("verdict", "action")) == [
        ("tie", "recorded"),
        ("tie", "undone"),
    ]


def test_undo_takes_back_a_skip_made_by_mistake() -> None:
    study = make_study()
    make_pairs(study, 2)
    ana = make_annotator(study)
    leased = next_pair(study, ana)
    skip_pair(pair=leased.pair, annotator=ana)
    back = undo(study, ana)
    assert (back.pair, back.left_side) == (leased.pair, leased.left_side)
    assert not Skip.objects.exists()
    assert_slots_add_up(study)


def test_a_skip_whose_pair_a_colleague_has_cannot_be_taken_back() -> None:
    study = make_study()
    pair = make_pair(study)
    ana = make_annotator(study)
    next_pair(study, ana)
    skip_pair(pair=pair, annotator=ana)
    next_pair(study, make_annotator(study, "ben"))
    with pytest.raises(LabelRefused, match="A colleague has taken"):
        undo(study, ana)
    assert Skip.objects.exists()
    assert lease_next_pair(study=study, annotator=ana) is None
    assert_slots_add_up(study)


def test_a_frozen_label_cannot_be_undone() -> None:
    study = make_study()
    ana = make_annotator(study)
    label(make_pair(study), ana)
    freeze_batch(study=study, batch=1)
    with pytest.raises(LabelRefused, match="frozen"):
        undo(study, ana)
    assert Preference.objects.count() == 1


def test_an_undo_that_arrives_again_takes_nothing_more_back_and_shows_the_same_pair() -> None:
    study = make_study()
    make_pairs(study, 5)
    ana, client_id = make_annotator(study), uuid.uuid4()
    first, second, third = label_next(study, ana, count=3)
    next_pair(study, ana)
    for _ in range(3):
        assert undo(study, ana, client_id=client_id).pair == third
    assert set(Preference.objects.values_list("pair", flat=True)) == {first.pk, second.pk}
    assert Lease.objects.filter(annotator=ana).count() == 2
    assert Undo.objects.count() == 1
    assert_slots_add_up(study)


def test_ten_undos_take_ten_acts_back_whichever_answers_get_lost() -> None:
    study = make_study()
    make_pairs(study, 12)
    ana = make_annotator(study)
    kept = label_next(study, ana, count=2)
    done = label_next(study, ana, count=4)
    skipped = next_pair(study, ana).pair
    skip_pair(pair=skipped, annotator=ana)
    done += [skipped, *label_next(study, ana, count=5)]
    for number, pair in enumerate(reversed(done)):
        client_id = uuid.uuid4()
        for _ in range(3 if number == 2 else 1 + number % 2):
            assert undo(study, ana, client_id=client_id).pair == pair
    assert list(Preference.objects.order_by("pk").values_list("pair", flat=True)) == [p.pk for p in kept]
    assert not Skip.objects.exists()
    assert_slots_add_up(study)


def test_an_undo_that_arrives_again_after_its_pair_was_judged_anew_leaves_the_new_label() -> None:
    study = make_study()
    make_pairs(study, 3)
    ana, client_id = make_annotator(study), uuid.uuid4()
    (pair,) = label_next(study, ana, count=1)
    undo(study, ana, client_id=client_id)
    label(pair, ana, Verdict.TIE)
    holds_now = next_pair(study, ana)
    assert undo(study, ana, client_id=client_id).pair == holds_now.pair
    assert Preference.objects.get().verdict == Verdict.TIE
    assert_slots_add_up(study)


def test_an_undo_that_arrives_again_when_nothing_is_left_says_so() -> None:
    study = make_study()
    ana, client_id = make_annotator(study), uuid.uuid4()
    pair = make_pair(study)
    label(pair, ana)
    undo(study, ana, client_id=client_id)
    label(pair, ana)
    assert undo_preference(study=study, annotator=ana, client_id=client_id) is None
    assert Preference.objects.exists()


def test_an_undo_of_somebody_else_or_another_study_is_refused() -> None:
    study, other = make_study(labels_per_pair=2), make_study(name="Other")
    pair, client_id = make_pair(study), uuid.uuid4()
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    label(pair, ana)
    label(pair, ben)
    undo(study, ana, client_id=client_id)
    for where, who in ((study, ben), (other, ana)):
        with pytest.raises(LabelRefused, match="another study or person"):
            undo(where, who, client_id=client_id)
    assert Preference.objects.get().annotator == ben


def test_an_undo_that_names_its_pair_takes_nothing_else_back() -> None:
    study = make_study()
    make_pairs(study, 4)
    ana = make_annotator(study)
    first, second, third = label_next(study, ana, count=3)

    def undo_of(pair: Pair) -> Pair:
        back = undo_preference(study=study, annotator=ana, client_id=uuid.uuid4(), pair_id=pair.pk)
        assert back is not None
        return back.pair

    assert undo_of(second) == second
    with pytest.raises(LabelRefused, match="taken that back already"):
        undo_of(second)
    assert set(Preference.objects.values_list("pair", flat=True)) == {first.pk, third.pk}
    assert undo(study, ana).pair == third
    assert_slots_add_up(study)


def test_an_undo_that_was_refused_counts_when_it_is_sent_again() -> None:
    study = make_study()
    pair, client_id = make_pair(study), uuid.uuid4()
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    skip_pair(pair=next_pair(study, ana).pair, annotator=ana)
    next_pair(study, ben)
    with pytest.raises(LabelRefused, match="A colleague has taken"):
        undo(study, ana, client_id=client_id)
    skip_pair(pair=pair, annotator=ben)
    assert undo(study, ana, client_id=client_id).pair == pair
    assert_slots_add_up(study)


def say_label(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    record_preference(pair=pair, annotator=annotator, verdict=Verdict.A, client_id=client_id)


def say_skip(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    skip_pair(pair=pair, annotator=annotator, client_id=client_id)


def say_flag(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    flag_pair(pair=pair, annotator=annotator, reason=Flag.Reason.BROKEN, client_id=client_id)


def say_label_and_flag(pair: Pair, annotator: User, client_id: uuid.UUID) -> None:
    say_label(pair, annotator, client_id)
    say_flag(pair, annotator, client_id)


Act = Callable[[Pair, User, uuid.UUID], None]


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize(
    ("act", "late"),
    [
        (say_label, say_label),
        (say_skip, say_skip),
        (say_flag, say_flag),
        (say_label_and_flag, say_label),
        (say_label_and_flag, say_flag),
    ],
)
def test_a_copy_of_an_act_that_arrives_after_its_undo_does_not_bring_it_back(
    act: Act, late: Act, slots: int
) -> None:
    study = make_study(labels_per_pair=slots)
    ana, client_id = make_annotator(study), uuid.uuid4()
    make_pair(study)
    pair = next_pair(study, ana).pair
    act(pair, ana, client_id)
    undo(study, ana)
    with pytest.raises(LabelRefused, match="taken this back already"):
        late(pair, ana, client_id)
    assert not any(model.objects.exists() for model in (Preference, Skip, Flag))
    assert Lease.objects.get().pair == pair
    assert_slots_add_up(study)
    say_label(pair, ana, uuid.uuid4())
    assert Preference.objects.count() == 1


def test_a_copy_of_a_skip_that_arrives_after_its_pair_was_taken_back_in_the_history_is_refused() -> None:
    study = make_study()
    ana, client_id = make_annotator(study), uuid.uuid4()
    pair = make_pair(study)
    next_pair(study, ana)
    say_skip(pair, ana, client_id)
    take_skipped_pair_back(pair=pair, annotator=ana)
    with pytest.raises(LabelRefused, match="taken this back already"):
        say_skip(pair, ana, client_id)
    assert next_pair(study, ana).pair == pair


def test_the_page_says_which_undo_it_is_and_sent_again_it_takes_one_label_back(
    client: Client, study: Study
) -> None:
    make_pairs(study, 4)
    html = page(client, study)
    for _ in range(3):
        html = judge(client, study, html).content.decode()
    last = Preference.objects.latest("pk").pair_id
    form = page(client, study).split("data-undo-form")[1].split("</form>")[0]
    fields = {name: form.split(f'name="{name}" value="')[1].split('"')[0] for name in ("client_id", "pair")}
    for headers in (SCRIPT, SCRIPT, {}):
        response = client.post(reverse("label-undo", args=[study.slug]), fields, headers=headers, follow=True)
        assert shown_pair(response.content.decode()) == last == int(fields["pair"])
    assert Preference.objects.count() == 2


def test_an_undo_or_skip_that_cannot_be_read_is_refused(client: Client, study: Study) -> None:
    pair = make_pair(study)
    judge(client, study, page(client, study))
    for name, fields in (("label-undo", {"client_id": "mine"}), ("label-undo", {"pair": "last"})):
        response = client.post(reverse(name, args=[study.slug]), fields, headers=SCRIPT)
        assert (response.status_code, "incomplete" in response.content.decode()) == (400, True)
    skip = client.post(reverse("label-skip", args=[study.slug, pair.pk]), {"client_id": "x"}, headers=SCRIPT)
    assert skip.status_code == 400
    assert Preference.objects.count() == 1


def test_a_skip_and_a_flag_from_the_screen_name_their_form(study: Study, ana: User) -> None:
    make_pairs(study, 2)
    client = client_of(ana)
    for name, more in (("label-skip", {}), ("label-flag", {"reason": "broken"})):
        html = page(client, study)
        fields = {"client_id": judgement(html)["client_id"], **more}
        url = reverse(name, args=[study.slug, shown_pair(html)])
        assert client.post(url, fields, headers=SCRIPT).status_code == 200
        client.post(reverse("label-undo", args=[study.slug]), headers=SCRIPT)
        late = client.post(url, fields, headers=SCRIPT)
        assert (late.status_code, Skip.objects.count()) == (409, 0)
        assert client.post(judge_url(study, shown_pair(html)), judgement(html)).status_code == 302
        assert not Preference.objects.exists()
