"""What reaches examples.jsonl, and what the receipt says of the rest."""

import json

import pytest

from annotate.models import (
    Membership,
    Pair,
    Preference,
    Prompt,
    Response,
    Role,
    Side,
    Split,
    Study,
    Verdict,
)
from annotate.selectors.preferences import label_usage
from annotate.services.checks import copy_for
from annotate.services.gold import make_known_pair
from annotate.services.resolutions import resolve_pair
from annotate.services.studies import add_member
from tests.training.factories import label, make_study, make_user
from tests.training.loop import fill_round, label_round
from training.models import Policy, Round, SampledResponse
from training.selectors.label_counts import counted_labels
from training.services.rounds import open_round, start_training
from training.services.run_directories import absolute
from training.services.training_set import HeldoutLeak, build_training_set
from training.training_set.decide import Outcome

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def study() -> Study:
    return make_study(train=6, heldout=3, minimum_labels=2)


@pytest.fixture
def opened(study: Study) -> Round:
    opened = open_round(study=study)
    fill_round(opened)
    return opened


def next_round(trained: Round) -> Round:
    """Pretend that the round was trained, and fill the next one."""
    Round.objects.filter(pk=trained.pk).update(state=Round.State.TRAINED)
    Policy.objects.create(study=trained.study, number=1, served_name=f"{trained.study.slug}-1")
    opened = open_round(study=trained.study)
    fill_round(opened)
    return opened


def test_chosen_is_what_the_majority_chose_with_the_sampled_token_ids(opened: Round) -> None:
    first, second = label_round(opened, verdicts=[Verdict.A, Verdict.B])
    examples = build_training_set(round=opened).examples
    assert [example.id for example in examples] == [f"pair-{first.pk}", f"pair-{second.pk}"]
    assert examples[0].chosen == ({"role": "assistant", "content": first.response_a.text},)
    assert examples[0].rejected == ({"role": "assistant", "content": first.response_b.text},)
    assert examples[1].chosen == ({"role": "assistant", "content": second.response_b.text},)
    sampled = SampledResponse.objects.get(response=second.response_b)
    assert examples[1].chosen_token_ids == tuple(sampled.token_ids)
    assert examples[1].prompt_token_ids == tuple(sampled.prompt_token_ids)
    assert examples[0].prompt == tuple(first.prompt.messages)


def test_receipt_counts_what_is_left_out_and_why(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A, Verdict.TIE, Verdict.BOTH_BAD, Verdict.B])
    receipt = build_training_set(round=opened).receipt
    assert receipt.usable == 2
    assert receipt.counts == {
        Outcome.PREFERENCE: 2,
        Outcome.TIED: 1,
        Outcome.BOTH_BAD: 1,
        Outcome.UNLABELLED: 2,
    }
    assert (receipt.labels, receipt.simulated_labels, receipt.note) == (4, 0, "")
    assert receipt.sentence() == "2 preferences kept; left out: 1 ties, 1 both bad, 2 not labelled."


@pytest.mark.parametrize(
    ("verdicts", "usable", "conflicts"),
    [
        ([Verdict.A, Verdict.B], 0, 1),
        ([Verdict.A, Verdict.B, Verdict.B], 1, 0),
        ([Verdict.A, Verdict.A, Verdict.TIE], 1, 0),
        ([Verdict.A, Verdict.TIE], 0, 1),
    ],
)
def test_votes_of_several_annotators_are_decided_by_majority(
    verdicts: list[Verdict], usable: int, conflicts: int
) -> None:
    study = make_study(train=1)
    study.labels_per_pair = 3
    study.save()
    opened = open_round(study=Study.objects.get(pk=study.pk))
    fill_round(opened)
    pair = Pair.objects.get()
    for verdict in verdicts:
        label(pair, annotator=make_user("annotator"), verdict=verdict)
    receipt = build_training_set(round=opened).receipt
    assert (receipt.usable, receipt.of(Outcome.CONFLICTING)) == (usable, conflicts)


def test_simulated_labels_are_counted_with_their_rule(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A] * 3, annotator=make_user("robot", simulated_rule="shorter"))
    receipt = build_training_set(round=opened).receipt
    assert receipt.note == "3 of 3 labels are simulated (rule shorter)."
    assert receipt.as_json()["simulated_labels"] == 3


def test_labels_of_older_rounds_weigh_half(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A] * 2)
    second = next_round(opened)
    label_round(second, verdicts=[Verdict.B] * 3)
    training_set = build_training_set(round=second)
    assert [example.weight for example in training_set.examples] == [0.5, 0.5, 1.0, 1.0, 1.0]
    assert training_set.receipt.as_json()["rounds"] == {
        "1": {"usable": 2, "weight": 0.5},
        "2": {"usable": 3, "weight": 1.0},
    }


def test_training_set_of_a_round_ignores_later_rounds(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A] * 2)
    label_round(next_round(opened), verdicts=[Verdict.B] * 3)
    assert build_training_set(round=opened).receipt.usable == 2


def test_pair_of_a_held_out_prompt_never_becomes_an_example(opened: Round) -> None:
    pairs = label_round(opened, verdicts=[Verdict.A] * 4)
    Prompt.objects.filter(pk=pairs[0].prompt_id).update(split=Split.HELDOUT)
    Pair.objects.filter(pk=pairs[1].pk).update(purpose=Pair.Purpose.EVALUATE)
    training_set = build_training_set(round=opened)
    assert [example.id for example in training_set.examples] == [f"pair-{pair.pk}" for pair in pairs[2:]]
    assert training_set.receipt.usable == 2


def test_held_out_prompt_that_gets_past_the_selection_stops_the_run(
    opened: Round, monkeypatch: pytest.MonkeyPatch
) -> None:
    from annotate.selectors import vote_columns

    pairs = label_round(opened, verdicts=[Verdict.A] * 2)
    Prompt.objects.filter(pk=pairs[0].prompt_id).update(split=Split.HELDOUT)
    monkeypatch.setattr(vote_columns, "_of_train_pairs", lambda **_: {"pair__study": opened.study})
    with pytest.raises(HeldoutLeak, match=f"pair {pairs[0].pk} is not for training"):
        build_training_set(round=opened)


def test_no_held_out_text_or_id_is_in_examples_jsonl(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A] * 6)
    run = start_training(round=opened)
    lines = (absolute(run.directory) / "examples.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["prompt"] for line in lines]
    heldout = [prompt.messages for prompt in Prompt.objects.filter(split=Split.HELDOUT)]
    assert len(lines) == 6
    assert len(heldout) == 3
    assert not [prompt for prompt in prompts if prompt in heldout]


def test_examples_are_in_the_conversational_preference_format(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A] * 2)
    run = start_training(round=opened)
    line = json.loads((absolute(run.directory) / "examples.jsonl").read_text().splitlines()[0])
    assert [message["role"] for message in line["prompt"] + line["chosen"] + line["rejected"]] == [
        "user",
        "assistant",
        "assistant",
    ]
    assert run.config["base_model"] == "owner/model"
    assert run.config["parent_adapter"] is None


def edit(preference: Preference, *, side: Side, text: str) -> None:
    response = Response.objects.create(prompt=preference.pair.prompt, text=text)
    Preference.objects.filter(pk=preference.pk).update(edited_response=response, edited_side=side)


def test_a_leads_verdict_goes_before_the_votes_and_is_counted(opened: Round) -> None:
    first, second, third = label_round(opened, verdicts=[Verdict.A, Verdict.A, Verdict.TIE])
    lead = make_user("decider")
    resolve_pair(pair=first, verdict=Verdict.B, note="", actor=lead)
    resolve_pair(pair=second, verdict=None, note="broken", actor=lead)
    resolve_pair(pair=third, verdict=Verdict.A, note="", actor=lead)
    training_set = build_training_set(round=opened)
    assert [example.id for example in training_set.examples] == [f"pair-{first.pk}", f"pair-{third.pk}"]
    assert training_set.examples[0].chosen[0]["content"] == first.response_b.text
    receipt = training_set.receipt.as_json()
    assert (receipt["usable"], receipt["resolved_by_lead"]) == (2, 2)
    assert receipt["left_out"] == {
        "ties": 0,
        "both_bad": 0,
        "conflicts": 0,
        "unlabelled": 3,
        "left_out_by_lead": 1,
        "weak": 0,
        "near_duplicates": 0,
        "older_rounds": 0,
    }
    usage = label_usage(study=opened.study)
    assert (usage.usable, usage.left_out, usage.unlabelled) == (2, 1, 3)


def test_a_decision_on_a_pair_that_nobody_judged_counts(opened: Round) -> None:
    pair = Pair.objects.filter(study=opened.study).order_by("pk").first()
    assert pair is not None
    resolve_pair(pair=pair, verdict=Verdict.A, note="", actor=make_user("decider"))
    receipt = build_training_set(round=opened).receipt
    assert (receipt.usable, receipt.of(Outcome.UNLABELLED), receipt.labels) == (1, 5, 0)


def test_labels_of_people_who_are_left_out_are_counted_and_not_used(opened: Round) -> None:
    ana, ben = make_user("ana"), make_user("ben")
    for person in (ana, ben):
        add_member(study=opened.study, user=person, role=Role.ANNOTATOR, actor=None)
    label_round(opened, verdicts=[Verdict.A, Verdict.B], annotator=ana)
    pair = Pair.objects.filter(study=opened.study).order_by("-pk").first()
    assert pair is not None
    label(pair, annotator=ben, verdict=Verdict.A)
    Membership.objects.filter(user=ana).update(in_training_sets=False)
    training_set = build_training_set(round=opened)
    assert [example.id for example in training_set.examples] == [f"pair-{pair.pk}"]
    receipt = training_set.receipt
    assert (receipt.usable, receipt.of(Outcome.UNLABELLED)) == (1, 5)
    assert (receipt.ignored_labels, receipt.labels) == (2, 1)
    usage = label_usage(study=opened.study)
    assert (usage.usable, usage.unlabelled) == (1, 5)


def test_an_edit_is_an_example_of_its_own_without_token_ids_of_the_edited_text(opened: Round) -> None:
    pair, tied = label_round(opened, verdicts=[Verdict.A, Verdict.TIE])
    edit(pair.preferences.get(), side=Side.A, text="A better answer.")
    edit(tied.preferences.get(), side=Side.B, text="Also better.")
    training_set = build_training_set(round=opened)
    plain, first, second = training_set.examples
    assert plain.id == f"pair-{pair.pk}"
    assert first.id == f"edit-{pair.preferences.get().pk}"
    assert first.chosen == ({"role": "assistant", "content": "A better answer."},)
    assert first.rejected == ({"role": "assistant", "content": pair.response_a.text},)
    assert first.chosen_token_ids is None
    sampled = SampledResponse.objects.get(response=pair.response_a)
    assert first.rejected_token_ids == tuple(sampled.token_ids)
    assert first.prompt_token_ids == tuple(sampled.prompt_token_ids)
    assert second.rejected[0]["content"] == tied.response_b.text
    assert (training_set.receipt.usable, training_set.receipt.edits) == (1, 2)
    assert first.weight == plain.weight


def test_an_edit_that_says_the_same_or_is_left_out_is_no_example(opened: Round) -> None:
    same, out = label_round(opened, verdicts=[Verdict.A, Verdict.A])
    edit(same.preferences.get(), side=Side.B, text=f" {same.response_b.text}\n")
    edit(out.preferences.get(), side=Side.A, text="Better.")
    resolve_pair(pair=out, verdict=None, note="", actor=make_user("decider"))
    assert build_training_set(round=opened).receipt.edits == 0


def test_practice_gold_and_repeats_never_reach_a_training_set(opened: Round) -> None:
    (pair,) = label_round(opened, verdicts=[Verdict.A])
    before = build_training_set(round=opened)
    person = make_user("checked")
    lead = make_user("maker")
    for purpose in (Pair.Purpose.GOLD, Pair.Purpose.PRACTICE):
        template = make_known_pair(pair=pair, purpose=purpose, verdict=Verdict.A, explanation="", actor=lead)
        label(copy_for(person, template=template, purpose=purpose), annotator=person, verdict=Verdict.B)
    repeat = copy_for(person, template=pair, purpose=Pair.Purpose.REPEAT)
    label(repeat, annotator=person, verdict=Verdict.B)
    Pair.objects.filter(purpose__in=["gold", "practice", "repeat"]).update(batch=1)
    after = build_training_set(round=opened)
    assert after.examples == before.examples
    assert (before.receipt.check_labels, after.receipt.check_labels) == (0, 3)
    assert counted_labels(opened.study, rounds=[opened])[1].labels == 1
    assert label_usage(study=opened.study, batches=[1]).usable == 1
