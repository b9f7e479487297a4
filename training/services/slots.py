"""Places to fill with responses, and what happens to a response that arrives for one.

A slot is (prompt, round, number) for a round's responses, (prompt, policy, number) for held-out ones.
Database constraints let each be filled at most once, whatever fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import transaction
from django.db.models import Count, F, QuerySet

from annotate.models import Pair, Prompt, Response, Split, Study
from annotate.services.pairs import add_pair, add_response
from training.models import Policy, Round, SampledResponse
from training.services.jobs import Claim, hold_claim, owned_job

RESPONSES_PER_PAIR = 2
MOST_RESAMPLES = 3


@dataclass(frozen=True)
class Slot:
    """One response to ask for; `resamples` counts how often the answer equalled its pair's other response."""

    prompt_id: int
    number: int
    resamples: int = 0


@dataclass(frozen=True)
class Target:
    """What is being filled: a round's training prompts, or (round None) a policy's held-out prompts."""

    study: Study
    policy: Policy
    round: Round | None
    slots_per_prompt: int

    @property
    def prompts(self) -> QuerySet[Prompt]:
        split = Split.TRAIN if self.round else Split.HELDOUT
        return Prompt.objects.filter(study=self.study, split=split).order_by("position")

    @property
    def sampled(self) -> QuerySet[SampledResponse]:
        """The responses that this target has already."""
        if self.round:
            return SampledResponse.objects.filter(round=self.round)
        return SampledResponse.objects.filter(policy=self.policy, round=None)

    @property
    def total(self) -> int:
        return self.prompts.count() * self.slots_per_prompt


@dataclass(frozen=True)
class NewResponse:
    """A completion as the engine gave it, with the settings it was asked with."""

    text: str
    prompt_token_ids: list[int]
    token_ids: list[int]
    logprobs: list[float]
    finish_reason: str
    settings: dict[str, Any]
    seed: int | None = None


class Stored(Enum):
    """What became of a response."""

    KEPT = "kept"
    IDENTICAL = "identical"
    ALREADY_FILLED = "already filled"


def missing_slots(target: Target) -> list[Slot]:
    """Return the slots that are still empty, prompt by prompt, so that the first pairs are complete early."""
    filled = set(target.sampled.values_list("prompt_id", "slot"))
    return [
        Slot(prompt_id, number)
        for prompt_id in target.prompts.values_list("pk", flat=True)
        for number in range(target.slots_per_prompt)
        if (prompt_id, number) not in filled
    ]


def store_response(claim: Claim, *, target: Target, slot: Slot, new: NewResponse) -> Stored:
    """Store a response in its slot and, when it completes a pair, the pair: in one fenced transaction.

    A response equal to its pair's other one is not stored, so that the slot is asked for again; after
    `MOST_RESAMPLES` it is stored without a pair. Raises AttemptSuperseded or JobCancelled.
    """
    with transaction.atomic():
        hold_claim(claim)
        if target.sampled.filter(prompt_id=slot.prompt_id, slot=slot.number).exists():
            return Stored.ALREADY_FILLED
        other = _other_response(target, slot=slot)
        same = other is not None and not differ(other.text, new.text)
        if same and slot.resamples < MOST_RESAMPLES:
            return Stored.IDENTICAL
        prompt = Prompt.objects.select_related("study").get(pk=slot.prompt_id)
        response = _keep(prompt, target=target, slot=slot, new=new)
        if target.round and other is not None and not same:
            first, second = (response, other) if slot.number == 0 else (other, response)
            add_pair(prompt=prompt, response_a=first, response_b=second, batch=target.round.number)
        owned_job(claim).update(done=F("done") + 1)
    return Stored.KEPT


def differ(text: str, other: str) -> bool:
    """Return whether a person could tell two responses apart."""
    return text.strip() != other.strip()


def _other_response(target: Target, *, slot: Slot) -> Response | None:
    """Return the response that this one forms a pair with, if it is there; held-out responses form none."""
    if target.round is None:
        return None
    sampled = target.sampled.filter(prompt_id=slot.prompt_id).exclude(slot=slot.number)
    first = sampled.select_related("response").first()
    return first.response if first else None


def _keep(prompt: Prompt, *, target: Target, slot: Slot, new: NewResponse) -> Response:
    response = add_response(prompt=prompt, text=new.text, was_cut=new.finish_reason == "length")
    SampledResponse.objects.create(
        response=response,
        prompt=prompt,
        policy=target.policy,
        round=target.round,
        slot=slot.number,
        settings=new.settings,
        seed=new.seed,
        prompt_token_ids=new.prompt_token_ids,
        token_ids=new.token_ids,
        logprobs=new.logprobs,
        finish_reason=new.finish_reason,
    )
    return response


def prompts_without_pair(round: Round) -> QuerySet[Prompt]:
    """Return the prompts whose two responses are stored but form no pair."""
    paired = Pair.objects.filter(study_id=round.study_id, batch=round.number, purpose=Pair.Purpose.TRAIN)
    complete = (
        SampledResponse.objects.filter(round=round)
        .values("prompt")
        .annotate(responses=Count("pk"))
        .filter(responses=RESPONSES_PER_PAIR)
        .values("prompt")
    )
    return Prompt.objects.filter(pk__in=complete).exclude(pk__in=paired.values("prompt"))


def pair_up(claim: Claim, *, target: Target) -> int:
    """Make the pairs whose two different responses are stored without one; returns how many."""
    if target.round is None:
        return 0
    made = 0
    for prompt in prompts_without_pair(target.round).select_related("study"):
        first, second = target.sampled.filter(prompt=prompt).order_by("slot").select_related("response")
        if differ(first.response.text, second.response.text):
            with transaction.atomic():
                hold_claim(claim)
                add_pair(
                    prompt=prompt,
                    response_a=first.response,
                    response_b=second.response,
                    batch=target.round.number,
                )
            made += 1
    return made
