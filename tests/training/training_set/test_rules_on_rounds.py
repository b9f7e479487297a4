"""Rules on labels in the database: what becomes of near-duplicates, edits, people, and what a run keeps."""

import json

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Pair, Preference, Response, Role, Side, Study, Verdict
from annotate.services.studies import add_member
from tests.training.factories import label, make_study, make_user
from tests.training.loop import fill_round, label_round
from training.models import PairSimilarity, Recipe, Round
from training.selectors.training_set import assemble
from training.services.rounds import RoundRefused, open_round, start_training
from training.services.run_directories import absolute
from training.services.training_set import build_training_set
from training.training_set.decide import Outcome
from training.training_set.rules import Aggregation, Edits, Rules, Ties

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def opened() -> Round:
    opened = open_round(study=make_study(train=6, minimum_labels=2))
    fill_round(opened)
    return Round.objects.get(pk=opened.pk)


def test_pairs_of_nearly_equal_responses_are_left_out_and_measured_once(opened: Round) -> None:
    same, other = label_round(opened, verdicts=[Verdict.A, Verdict.B])
    Response.objects.filter(pk=same.response_a_id).update(
        text="one two three four five six seven eight nine A"
    )
    Response.objects.filter(pk=same.response_b_id).update(
        text="one two three four five six seven eight nine B"
    )
    rules = Rules(most_alike=0.9)
    built = build_training_set(round=opened, rules=rules)
    assert [example.id for example in built.examples] == [f"pair-{other.pk}"]
    assert built.receipt.of(Outcome.ALIKE) == 1
    assert PairSimilarity.objects.get(pair=same).share == pytest.approx(0.9)
    PairSimilarity.objects.filter(pair=other).update(share=1.0)
    assert build_training_set(round=opened, rules=rules).examples == ()
    assert build_training_set(round=opened).receipt.usable == 2


def test_an_edit_can_be_preferred_to_both_responses_or_left_out(opened: Round) -> None:
    (pair,) = label_round(opened, verdicts=[Verdict.A])
    edited = Response.objects.create(prompt=pair.prompt, text="Better than both.")
    Preference.objects.filter(pair=pair).update(edited_response=edited, edited_side=Side.A)
    name = f"edit-{pair.preferences.get().pk}"
    built = build_training_set(round=opened, rules=Rules(edits=Edits.BOTH))
    assert [example.id for example in built.examples] == [f"pair-{pair.pk}", name, f"{name}-other"]
    assert built.examples[2].rejected[0]["content"] == pair.response_b.text
    assert built.receipt.edits == 2
    without = build_training_set(round=opened, rules=Rules(edits=Edits.LEAVE_OUT))
    assert (len(without.examples), without.receipt.edits) == (1, 0)


def test_people_can_be_left_out_of_one_training_set(opened: Round) -> None:
    ada, ben = make_user("ada"), make_user("ben")
    for person in (ada, ben):
        add_member(study=opened.study, user=person, role=Role.ANNOTATOR, actor=None)
    Pair.objects.update(labels_wanted=2)
    (pair,) = label_round(opened, verdicts=[Verdict.A], annotator=ada)
    label(Pair.objects.get(pk=pair.pk), annotator=ben, verdict=Verdict.B)
    assert build_training_set(round=opened).receipt.of(Outcome.CONFLICTING) == 1
    built = build_training_set(round=opened, rules=Rules(annotators_left_out=(ada.pk,)))
    assert built.examples[0].chosen[0]["content"] == pair.response_b.text
    assert (built.receipt.ignored_labels, built.receipt.labels) == (1, 1)
    assert "Left out: Ada." in built.receipt.rule_words


def test_soft_labels_reach_the_examples_with_their_probability(opened: Round) -> None:
    Pair.objects.update(labels_wanted=3)
    pair = Pair.objects.order_by("pk").first()
    assert pair is not None
    for verdict in (Verdict.B, Verdict.B, Verdict.A):
        label(Pair.objects.get(pk=pair.pk), annotator=make_user(), verdict=verdict)
    (example,) = build_training_set(round=opened, rules=Rules(aggregation=Aggregation.SHARE)).examples
    assert example.chosen[0]["content"] == pair.response_b.text
    assert example.as_json()["p"] == pytest.approx(2 / 3)


def test_a_run_keeps_its_rules_receipt_and_the_hash_of_its_examples(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.TIE, Verdict.BOTH_BAD])
    run = start_training(round=opened, rules=Rules(ties=Ties.HALF))
    lines = (absolute(run.directory) / "examples.jsonl").read_text().splitlines()
    assert [json.loads(line).get("p", 1.0) for line in lines] == [1.0, 1.0, 0.5]
    assert (run.receipt["usable"], run.receipt["even"], run.receipt["left_out"]["both_bad"]) == (3, 1, 1)
    assert run.receipt["rules"] == Rules(ties=Ties.HALF).as_json()
    assert "Ties are trained with p = ½." in run.receipt["rule_words"]
    assert len(run.dataset_sha256) == 64


def test_training_follows_the_studys_rules_unless_others_are_given(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.TIE])
    Recipe.objects.update(training_rules=Rules(ties=Ties.HALF).as_json())
    assert build_training_set(round=Round.objects.get(pk=opened.pk)).receipt.usable == 3
    assert build_training_set(round=opened, rules=Rules()).receipt.usable == 2


def test_rules_that_the_loss_cannot_follow_leave_the_round_as_it_was(opened: Round) -> None:
    label_round(opened, verdicts=[Verdict.A, Verdict.B])
    Recipe.objects.update(loss="hinge")
    with pytest.raises(RoundRefused, match="the loss hinge knows only sure labels; take dpo"):
        start_training(round=opened, rules=Rules(aggregation=Aggregation.SHARE))
    opened.refresh_from_db()
    assert opened.state == Round.State.COLLECTING
    assert not opened.runs.exists()


def test_deciding_takes_as_many_queries_for_one_pair_as_for_many() -> None:
    def queries(study: Study, *, verdicts: int) -> int:
        opened = open_round(study=study)
        fill_round(opened)
        label_round(opened, verdicts=[Verdict.A] * verdicts)
        with CaptureQueriesContext(connection) as captured:
            assemble(round=opened, rules=Rules(aggregation=Aggregation.RELIABILITY), loss="dpo")
        return len(captured)

    assert queries(make_study(train=1), verdicts=1) == queries(make_study(train=8), verdicts=8) <= 8
