"""Which responses a policy scores: its own, and its rivals' on the first held-out prompts."""

import pytest

from tests.training.page_world import PageWorld, add_heldout_response, add_policy, heldout_prompts
from training.models import Policy
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
