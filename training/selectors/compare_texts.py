"""The held-out responses of policies, read through their index: the rows themselves are wide."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import QuerySet

from training.models import Policy, SampledResponse


def heldout_responses(policy: Policy) -> QuerySet[SampledResponse]:
    return SampledResponse.objects.filter(policy=policy, round=None)


def answered_prompts(policy: Policy, *, slot: int) -> QuerySet[SampledResponse, int]:
    """Return the ids of the prompts that the policy has answered in this sample."""
    return heldout_responses(policy).filter(slot=slot).order_by().values_list("prompt_id", flat=True)


def texts_of(policy: Policy, *, slot: int, prompts: Sequence[int] | None = None) -> dict[int, str]:
    """Return the policy's responses of one sample by prompt id: one query."""
    rows = heldout_responses(policy).filter(slot=slot).order_by()
    if prompts is not None:
        rows = rows.filter(prompt__in=prompts)
    return dict(rows.values_list("prompt_id", "response__text"))
