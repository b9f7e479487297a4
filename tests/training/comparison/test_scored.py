"""Which responses a policy scores: its own, and its rivals' on the first held-out prompts."""

import pytest

from tests.training.factories import make_round
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_policy,
    add_run,
    heldout_prompts,
)
from training.models import Policy, Round
from training.services import scoring
from training.services.scoring import score_examples, scored_responses

pytestmark = pytest.mark.django_db


def test_policy_scores_its_own_responses_and_those_of_the_reference_and_its_parent(
    world: PageWorld, reference: Policy, trained: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "RIVAL_PROMPTS", 1)
    first, second, *_ = heldout_prompts(world.study)
    other = add_policy(world.study, number=2)
    newest = Policy.objects.create(study=world.study, number=3, parent=trained, served_name="newest")
    for policy in (reference, trained, other, newest):
        add_heldout_response(policy, first, f"policy {policy.number}")
        add_heldout_response(policy, second, f"policy {policy.number}")
    found = list(scored_responses(newest))
    assert [(item.prompt, item.policy.number) for item in found] == [
        (first, 3),
        (first, 0),
        (first, 1),
        (second, 3),
    ]
    examples = list(score_examples(found))
    assert [len(example.completions) for example in examples] == [3, 1]


def test_a_run_from_the_reference_scores_the_policy_that_its_round_sampled(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    prompt = heldout_prompts(world.study)[0]
    unmet = add_policy(world.study, number=2)
    # Round 2 went back to policy 1; its run began afresh, so that its parent is the reference.
    item = make_round(world.study, number=2)
    Round.objects.filter(pk=item.pk).update(sampled_policy=trained)
    afresh = add_policy(world.study, number=3, run=add_run(item))
    Policy.objects.filter(pk=afresh.pk).update(parent=reference)
    for policy in (reference, trained, unmet, afresh):
        add_heldout_response(policy, prompt, f"policy {policy.number}")
    found = scored_responses(Policy.objects.get(pk=afresh.pk))
    assert [item.policy.number for item in found] == [3, 0, 1]
