"""A study with two policies, their answers, and what people said of them."""

from __future__ import annotations

import itertools

from annotate.models import Pair, Prompt, Verdict
from annotate.services.pairs import add_pair
from tests.training.factories import label, make_user
from tests.training.page_world import PageWorld, add_heldout_response
from training.models import Policy, SampledResponse

numbers = itertools.count(1)


def answer_both(
    prompt: Prompt, *, reference: Policy, trained: Policy, before: str, after: str
) -> tuple[SampledResponse, SampledResponse]:
    return add_heldout_response(reference, prompt, before), add_heldout_response(trained, prompt, after)


def judge(before: SampledResponse, after: SampledResponse, verdict: str) -> Pair:
    """Have a person compare two responses blindly: "before", "after" or "tie"."""
    verdicts = {"before": Verdict.A, "after": Verdict.B, "tie": Verdict.TIE}
    pair = add_pair(
        prompt=before.prompt,
        response_a=before.response,
        response_b=after.response,
        batch=1,
        purpose=Pair.Purpose.EVALUATE,
    )
    label(pair, annotator=make_user(f"judge{next(numbers)}"), verdict=verdicts[verdict])
    return pair


def text_of(world: PageWorld, path: str) -> str:
    response = world.lead.get(world.url(path))
    assert response.status_code == 200
    html: str = response.content.decode()
    return html
