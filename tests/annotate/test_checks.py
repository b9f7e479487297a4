"""Practice, gold and repeats: when they come, to whom, and that they touch nothing else."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.errors import CheckRefused, PromptFileError
from annotate.models import KnownAnswer, Membership, Pair, Preference, Prompt, Side, Study, User, Verdict
from annotate.selectors.exports import trl_lines
from annotate.selectors.preferences import label_progress, label_usage, labelled_pairs
from annotate.selectors.queue import queue_state
from annotate.services.checks import due_check, standing_of
from annotate.services.gold import import_known_pairs, make_known_pair, withdraw_known_pair
from annotate.services.pairs import freeze_batch
from annotate.services.practice import practice_feedback, restart_practice, with_letters
from annotate.services.preferences import skip_pair
from annotate.services.queue import lease_next_pair
from annotate.services.simulation import label_by_rule, simulated_annotator
from tests.annotate.check_world import configure, make_known
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pairs,
    make_study,
    next_pair,
)

pytestmark = pytest.mark.django_db

PRACTICE, GOLD, REPEAT = Pair.Purpose.PRACTICE, Pair.Purpose.GOLD, Pair.Purpose.REPEAT


@pytest.fixture
def study() -> Study:
    return configure(make_study(), practice_pairs=2, gold_share=0.0, repeat_share=0.0)


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")


def work(study: Study, annotator: User, *, labels: int, verdict: Verdict = Verdict.A) -> list[Pair]:
    """Label what the queue brings, one after the other."""
    done = []
    for _ in range(labels):
        leased = next_pair(study, annotator)
        label(leased.pair, annotator, verdict, side=leased.left_side)
        done.append(leased.pair)
    return done


def test_somebody_new_practises_before_the_first_real_pair_and_only_once(study: Study, ana: User) -> None:
    for number in (1, 2, 3):
        make_known(study, PRACTICE, number=number)
    make_pairs(study, 4)
    purposes = [pair.purpose for pair in work(study, ana, labels=5)]
    assert purposes == [PRACTICE, PRACTICE, Pair.Purpose.TRAIN, Pair.Purpose.TRAIN, Pair.Purpose.TRAIN]
    assert Membership.objects.get(user=ana).practice_done_at is not None
    assert_slots_add_up(study)


def test_practice_feedback_speaks_of_the_sides_as_they_were_shown(study: Study, ana: User) -> None:
    make_known(study, PRACTICE, verdict=Verdict.A)
    pair = next_pair(study, ana).pair
    feedback = practice_feedback(label(pair, ana, Verdict.B, side=Side.B))
    assert feedback is not None
    assert (feedback.agrees, feedback.theirs, feedback.expected) == (False, "A is better", "B is better")
    assert "<strong>1</strong>" in feedback.explanation
    assert (feedback.done, feedback.total, feedback.is_last) == (1, 1, True)


def test_practice_counts_neither_as_done_nor_as_left(study: Study, ana: User) -> None:
    make_known(study, PRACTICE)
    make_pairs(study, 3)
    assert next_pair(study, ana).pair.purpose == PRACTICE
    state = queue_state(study=study, annotator=ana)
    assert (state.waiting, state.mine_done) == (3, 0)
    work(study, ana, labels=2)
    state = queue_state(study=study, annotator=ana)
    assert (state.waiting, state.mine_done) == (2, 1)


@pytest.mark.parametrize(
    ("left", "shown"),
    [
        (Side.A, "<p>(A) is short, <em>B</em> &lt;i&gt;long&lt;/i&gt;.</p>"),
        (Side.B, "<p>(B) is short, <em>A</em>"),
    ],
)
def test_practice_explanation_names_the_letters_that_were_seen(
    study: Study, ana: User, left: Side, shown: str
) -> None:
    template = make_known(study, PRACTICE)
    KnownAnswer.objects.filter(pair=template).update(explanation="({a}) is short, *{b}* <i>long</i>.")
    feedback = practice_feedback(label(next_pair(study, ana).pair, ana, Verdict.A, side=left))
    assert feedback is not None
    assert feedback.explanation.strip().startswith(shown)


def test_braces_of_mathematics_are_no_letters() -> None:
    assert with_letters(r"$\frac{a}{b}$, $x^{a}$, {a}{b}", left=Side.B) == r"$\frac{a}{b}$, $x^{a}$, {a}{b}"


def test_practice_can_be_repeated_and_its_labels_stay_out_of_all_data(study: Study, ana: User) -> None:
    make_known(study, PRACTICE)
    make_pairs(study, 2)
    work(study, ana, labels=1)
    assert restart_practice(study=study, annotator=ana) == 1
    assert next_pair(study, ana).pair.purpose == PRACTICE
    assert Preference.objects.filter(annotator=ana).count() == 1
    assert not list(labelled_pairs(study=study))
    assert label_progress(study=study, batch=0).labels == 0
    assert queue_state(study=study, annotator=ana).mine_done == 0
    assert label_usage(study=study).pairs == 2
    assert not list(trl_lines(study=study))
    assert_slots_add_up(study)


def test_people_who_began_before_there_was_practice_are_left_in_peace(study: Study, ana: User) -> None:
    make_pairs(study, 3)
    work(study, ana, labels=1)
    make_known(study, PRACTICE)
    assert next_pair(study, ana).pair.purpose == Pair.Purpose.TRAIN


def test_each_gold_pair_comes_once_to_each_annotator_with_about_its_share(study: Study) -> None:
    study = configure(study, practice_pairs=0, gold_share=0.25)
    golds = [make_known(study, GOLD, number=number) for number in range(40)]
    make_pairs(study, 120)
    ana = make_annotator(study, "ana")
    pairs = work(study, ana, labels=120)
    seen = [pair.original_id for pair in pairs if pair.purpose == GOLD]
    assert 15 <= len(seen) <= 45  # 30 expected, standard deviation 4.7
    assert len(seen) == len(set(seen))
    assert set(seen) <= {gold.pk for gold in golds}


def test_whether_a_check_is_due_is_the_same_however_often_it_is_asked(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, gold_share=0.5)
    for number in range(5):
        make_known(study, GOLD, number=number)
    standing = standing_of(study=study, annotator=ana)
    made = [due_check(study=study, annotator=ana, standing=standing) for _ in range(20)]
    assert sum(pair is not None for pair in made) <= 1


def test_a_skipped_gold_pair_does_not_bring_another_at_once(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, gold_share=0.5)
    for number in range(5):
        make_known(study, GOLD, number=number)
    make_pairs(study, 30)
    for _ in range(30):
        leased = next_pair(study, ana)
        if leased.pair.purpose == GOLD:
            skip_pair(pair=leased.pair, annotator=ana)
            assert next_pair(study, ana).pair.purpose == Pair.Purpose.TRAIN
            return
        label(leased.pair, ana, side=leased.left_side)
    pytest.fail("no gold pair came")


def test_a_gold_pair_made_of_a_judged_pair_does_not_go_to_who_judged_it(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, gold_share=0.5)
    source = make_pairs(study, 1)[0]
    label(source, ana)
    lead = User.objects.get(memberships__study=study, memberships__role="lead")
    gold = make_known_pair(pair=source, purpose=GOLD, verdict=Verdict.A, explanation="x", actor=lead)
    make_pairs(study, 40)
    assert not [pair for pair in work(study, ana, labels=20) if pair.purpose == GOLD]
    ben = make_annotator(study, "ben")
    assert [pair.original for pair in work(study, ben, labels=20) if pair.purpose == GOLD] == [gold]
    with pytest.raises(CheckRefused, match="is a gold pair already"):
        make_known_pair(pair=source, purpose=GOLD, verdict=Verdict.A, explanation="x", actor=lead)


def test_repeats_show_ones_own_pair_with_the_sides_swapped_and_never_twice(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, repeat_share=0.3)
    make_pairs(study, 90)
    work(study, ana, labels=80)
    repeats = list(Pair.objects.filter(purpose=REPEAT).select_related("original"))
    assert 8 <= len(repeats) <= 40
    assert len({repeat.original_id for repeat in repeats}) == len(repeats)
    for repeat in repeats:
        first = Preference.objects.get(pair=repeat.original_id, annotator=ana)
        again = Preference.objects.get(pair=repeat)
        assert {first.shown_left, again.shown_left} == {"a", "b"}
        between = Preference.objects.filter(annotator=ana, pk__gt=first.pk, pk__lt=again.pk).count()
        assert between >= 19


def test_a_repeat_comes_after_a_day_also_to_somebody_with_few_labels(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, repeat_share=0.5)
    make_pairs(study, 30)
    work(study, ana, labels=8)
    assert not Pair.objects.filter(purpose=REPEAT).exists()
    yesterday = timezone.now() - timedelta(hours=25)
    Preference.objects.filter(annotator=ana).update(created_at=yesterday)
    work(study, ana, labels=12)
    assert Pair.objects.filter(purpose=REPEAT).exists()


def test_repeats_of_frozen_pairs_stay_open_and_change_nothing_of_the_round(study: Study, ana: User) -> None:
    study = configure(study, practice_pairs=0, repeat_share=0.5)
    make_pairs(study, 40)
    work(study, ana, labels=39)
    before = label_progress(study=study, batch=1)
    freeze_batch(study=study, batch=1)
    Pair.objects.filter(purpose=REPEAT).delete()
    leased = lease_next_pair(study=study, annotator=ana)
    while leased is not None:
        assert leased.pair.purpose == REPEAT
        label(leased.pair, ana, Verdict.B, side=leased.left_side)
        leased = lease_next_pair(study=study, annotator=ana)
    assert label_progress(study=study, batch=1).a == before.a
    assert label_usage(study=study, batches=[1]).usable == before.a


def test_simulated_annotators_are_not_checked(study: Study) -> None:
    study = configure(study, gold_share=0.5, repeat_share=0.5)
    make_known(study, PRACTICE)
    make_known(study, GOLD)
    make_pairs(study, 30)
    robot = simulated_annotator(study=study, username="robot", rule="shorter")
    assert label_by_rule(study=study, annotator=robot).labels == 30
    assert not Pair.objects.filter(reserved_for=robot).exists()


def test_nobody_else_gets_a_reserved_pair_and_templates_are_in_no_queue(study: Study, ana: User) -> None:
    make_known(study, PRACTICE)
    make_known(study, GOLD)
    next_pair(study, ana)
    ben = make_annotator(study, "ben")
    work(study, ben, labels=1)
    assert lease_next_pair(study=study, annotator=ben) is None


def test_a_withdrawn_gold_pair_goes_to_nobody_and_leaves_the_screens(study: Study, ana: User) -> None:
    template = make_known(study, PRACTICE)
    copy = next_pair(study, ana).pair
    withdraw_known_pair(template=template, actor=ana)
    copy.refresh_from_db()
    assert (copy.state, copy.slots_taken) == (Pair.State.WITHDRAWN, 0)
    assert lease_next_pair(study=study, annotator=ana) is None


@pytest.mark.parametrize("labels", [30, 120])
def test_asking_whether_a_check_is_due_costs_the_same_however_much_there_is(
    study: Study, ana: User, labels: int
) -> None:
    study = configure(study, practice_pairs=0, gold_share=0.5, repeat_share=0.5)
    pairs = make_pairs(study, labels)
    for pair in pairs:
        label(pair, ana)
    with CaptureQueriesContext(connection) as queries:
        due_check(study=study, annotator=ana, standing=standing_of(study=study, annotator=ana))
    assert len(queries) <= 4  # standing, candidates, the check that fits, its copy
    configured = configure(study, gold_share=0.0, repeat_share=0.0)
    standing = standing_of(study=study, annotator=ana)
    with CaptureQueriesContext(connection) as queries:
        due_check(study=configured, annotator=ana, standing=standing)
    assert len(queries) == 0


LINE = {"prompt": "Name a fruit.", "response_a": "Pear", "response_b": "Stone", "verdict": "a"}


def test_a_file_of_gold_pairs_is_imported_without_adding_prompts_to_sample_from(study: Study) -> None:
    lines = [
        json.dumps({**LINE, "explanation": "A stone is none."}),
        "",
        json.dumps({**LINE, "verdict": "tie"}),
    ]
    assert import_known_pairs(study=study, lines=[line.encode() for line in lines], purpose=GOLD) == 2
    assert Prompt.objects.get(study=study).split == "check"
    assert Pair.objects.filter(purpose=GOLD, labels_wanted=0).count() == 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"response_b": "Pear"}, "response_a and response_b are the same"),
        ({"response_a": " "}, "response_a is missing or empty"),
        ({"verdict": "c"}, "verdict = 'c' is not known"),
        ({"explanation": 3}, "explanation must be a text"),
        ({"prompt": ""}, "Message 1 is empty"),
    ],
)
def test_one_faulty_line_imports_nothing_and_is_named(
    study: Study, change: dict[str, object], sentence: str
) -> None:
    lines = [json.dumps(LINE).encode(), json.dumps({**LINE, **change}).encode()]
    with pytest.raises(PromptFileError) as caught:
        import_known_pairs(study=study, lines=lines, purpose=GOLD)
    assert caught.value.errors[0].line == 2
    assert sentence in caught.value.errors[0].message
    assert not Pair.objects.exists()


def test_a_file_without_pairs_is_refused(study: Study) -> None:
    with pytest.raises(PromptFileError, match="1 line is wrong"):
        import_known_pairs(study=study, lines=[b"\n"], purpose=GOLD)
