"""Blind pairs of policies: how many, which, once each, and never trained on."""

from __future__ import annotations

from collections import Counter

import pytest

from annotate.models import Pair, Response, Split, Verdict
from annotate.selectors.preferences import label_usage
from annotate.services.pairs import add_pair, add_response, freeze_batch
from annotate.services.queue import lease_next_pair
from tests.training.evaluation.world import (
    answer_all,
    heldout_claim,
    judge_all,
    reference_of,
    trained_policy,
)
from tests.training.factories import label, make_round, make_study, make_user, train_prompts
from training.models import EvaluationPair, EvaluationPlan, Policy, SampledResponse
from training.services.asked_pairs import take_back
from training.services.evaluation_pairs import EvaluationRefused, ask_for_evaluation, ask_for_more
from training.services.training_set import build_training_set

pytestmark = pytest.mark.django_db


def training_pairs(policy: Policy, *, count: int) -> None:
    prompt = train_prompts(policy.study)[0]
    for number in range(count):
        first, second = (add_response(prompt=prompt, text=f"{side} {number}", was_cut=False) for side in "xy")
        add_pair(prompt=prompt, response_a=first, response_b=second, batch=policy.run.round.number)


def second_policy(*, heldout: int = 12, pairs: int = 20) -> Policy:
    """Policy 2, whose parent is policy 1; all three have answered the held-out prompts."""
    study = make_study(heldout=heldout)
    answer_all(reference_of(study), text="reference {}".format)
    first = trained_policy(study, number=1)
    answer_all(first, text="first {}".format)
    second = trained_policy(study, number=2, parent=first)
    answer_all(second, text="second {}".format)
    training_pairs(second, count=pairs)
    return second


def test_a_set_share_is_asked_balanced_between_reference_and_parent() -> None:
    policy = second_policy(pairs=40)
    assert ask_for_evaluation(heldout_claim(policy.study), sampled=policy) == 10  # 20 % of 50 pairs
    rivals = Counter(EvaluationPair.objects.values_list("opponent__number", flat=True))
    assert rivals == {0: 5, 1: 5}


def test_each_prompt_is_used_before_one_is_used_twice() -> None:
    policy = second_policy(heldout=12, pairs=72)
    ask_for_evaluation(heldout_claim(policy.study), sampled=policy)
    uses = Counter(EvaluationPair.objects.values_list("prompt", flat=True))
    assert sum(uses.values()) == 18
    assert len(uses) == 12
    assert max(uses.values()) == 2


def test_a_job_that_runs_twice_makes_no_pair_twice() -> None:
    policy = second_policy(pairs=40)
    claim = heldout_claim(policy.study)
    ask_for_evaluation(claim, sampled=policy)
    assert ask_for_evaluation(claim, sampled=policy) == 0
    assert Pair.objects.filter(purpose=Pair.Purpose.EVALUATE).count() == 10


def test_responses_of_an_opponent_that_come_late_are_compared_then() -> None:
    study = make_study(heldout=6)
    policy = trained_policy(study, number=1)
    answer_all(policy, text="first {}".format)
    training_pairs(policy, count=16)
    claim = heldout_claim(study)
    assert ask_for_evaluation(claim, sampled=policy) == 0
    answer_all(reference_of(study), text="reference {}".format)
    assert ask_for_evaluation(claim, sampled=reference_of(study)) == 4


def test_a_share_of_nothing_asks_nothing() -> None:
    policy = second_policy()
    EvaluationPlan.objects.create(study=policy.study, evaluation_share=0.0)
    assert ask_for_evaluation(heldout_claim(policy.study), sampled=policy) == 0


def test_identical_texts_are_a_tie_that_nobody_is_asked() -> None:
    study = make_study(heldout=5)
    answer_all(reference_of(study), text="same {}".format)
    policy = trained_policy(study, number=1)
    answer_all(policy, text=lambda number: f"same {number}" if number < 4 else "other")
    assert ask_for_more(policy=policy, pairs=50, actor=None) == 1
    assert EvaluationPair.objects.filter(pair__isnull=True).count() == 4
    assert Pair.objects.count() == 1


def test_who_wrote_what_agrees_with_the_provenance_of_the_responses() -> None:
    policy = second_policy()
    ask_for_more(policy=policy, pairs=20, actor=None)
    sides = set()
    for row in EvaluationPair.objects.select_related("pair"):
        assert row.pair is not None
        author_of_a = SampledResponse.objects.get(response=row.pair.response_a_id).policy
        author_of_b = SampledResponse.objects.get(response=row.pair.response_b_id).policy
        own, other = (author_of_a, author_of_b) if row.policy_is_a else (author_of_b, author_of_a)
        assert (own, other) == (row.policy, row.opponent)
        sides.add(row.policy_is_a)
    assert sides == {True, False}


def test_annotators_get_them_in_the_common_queue_and_nothing_says_who_wrote_them() -> None:
    policy = second_policy(pairs=0)
    ask_for_more(policy=policy, pairs=1, actor=None)
    leased = lease_next_pair(study=policy.study, annotator=make_user("ann"))
    assert leased is not None
    assert leased.pair.purpose == Pair.Purpose.EVALUATE
    assert {field.name for field in Response._meta.get_fields() if field.concrete} == {
        *("id", "prompt", "text", "was_cut", "created_at")
    }


def test_evaluation_goes_on_when_the_next_round_freezes_its_labels() -> None:
    policy = second_policy(pairs=0)
    ask_for_more(policy=policy, pairs=4, actor=None)
    for batch in (1, 2, 3):
        freeze_batch(study=policy.study, batch=batch)
    assert Pair.objects.filter(purpose=Pair.Purpose.EVALUATE, state=Pair.State.OPEN).count() == 4


def test_evaluation_verdicts_are_never_trained_on() -> None:
    policy = second_policy(pairs=0)
    study = policy.study
    ask_for_more(policy=policy, pairs=10, actor=None)
    judge_all(policy, won=lambda row: True)
    opened = make_round(study, number=3)
    prompt = train_prompts(study)[0]
    first, second = (add_response(prompt=prompt, text=text, was_cut=False) for text in ("one", "two"))
    pair = add_pair(prompt=prompt, response_a=first, response_b=second, batch=3)
    label(pair, annotator=make_user("ann"), verdict=Verdict.A)
    examples = build_training_set(round=opened).examples
    assert [example.id for example in examples] == [f"pair-{pair.pk}"]
    assert label_usage(study=study).pairs == 1
    assert (
        not Pair.objects.filter(purpose=Pair.Purpose.EVALUATE).exclude(prompt__split=Split.HELDOUT).exists()
    )


def test_more_can_be_asked_until_the_prompts_are_used_up() -> None:
    policy = second_policy(heldout=3)
    lead = make_user("lead")
    assert ask_for_more(policy=policy, pairs=4, actor=lead) == 4
    assert ask_for_more(policy=policy, pairs=50, actor=lead) == 2
    with pytest.raises(EvaluationRefused, match="held-out"):
        ask_for_more(policy=policy, pairs=1, actor=lead)
    with pytest.raises(EvaluationRefused, match="between 1 and"):
        ask_for_more(policy=policy, pairs=0, actor=lead)
    assert policy.study.audit_entries.filter(action="evaluation.more", actor=lead).count() == 2


def waiting_pairs(policy: Policy) -> set[int]:
    return set(
        Pair.objects.filter(evaluation__policy=policy, state=Pair.State.OPEN).values_list("pk", flat=True)
    )


def test_pairs_that_nobody_began_with_are_taken_back_and_asked_again_first() -> None:
    policy = second_policy(heldout=6)
    lead, ann = make_user("lead"), make_user("ann")
    ask_for_more(policy=policy, pairs=2, actor=None)
    planned = waiting_pairs(policy)
    ask_for_more(policy=policy, pairs=6, actor=lead)
    asked = waiting_pairs(policy) - planned
    judged = Pair.objects.get(pk=min(asked))
    label(judged, annotator=ann, verdict=Verdict.TIE)
    assert take_back(policy.study, actor=ann) == 0  # it was not they who asked
    assert take_back(policy.study, actor=lead) == 5
    assert waiting_pairs(policy) == planned | {judged.pk}
    assert take_back(policy.study, actor=lead) == 0
    assert ask_for_more(policy=policy, pairs=4, actor=lead) == 4
    assert waiting_pairs(policy) < planned | asked
    assert ask_for_more(policy=policy, pairs=2, actor=lead) == 2
    assert asked < waiting_pairs(policy)
