"""What reaches examples.jsonl, and what the receipt says of the rest."""

import json

import pytest

from annotate.models import Pair, Prompt, Split, Study, Verdict
from tests.training.factories import label, make_study, make_user
from tests.training.loop import fill_round, label_round
from training.models import Policy, Round, SampledResponse
from training.services.rounds import open_round, start_training
from training.services.run_directories import absolute
from training.services.training_set import HeldoutLeak, build_training_set

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
    assert (receipt.usable, receipt.ties, receipt.both_bad, receipt.conflicts) == (2, 1, 1, 0)
    assert (receipt.unlabelled, receipt.labels, receipt.simulated_labels, receipt.note) == (2, 4, 0, "")


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
    assert (receipt.usable, receipt.conflicts) == (usable, conflicts)


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
    from annotate.selectors import preferences

    pairs = label_round(opened, verdicts=[Verdict.A] * 2)
    Prompt.objects.filter(pk=pairs[0].prompt_id).update(split=Split.HELDOUT)
    monkeypatch.setattr(preferences, "_train_pairs", lambda **_: Pair.objects.all())
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
