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
from training.models import ChosenPair, Policy, Round, SampledResponse
from training.services.jobs import Claim, hold_claim, owned_job
from training.services.pair_choice import Candidate, choose_pair

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
    reference_logp: float | None = None


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
    """Store a response in its slot and, when it is the prompt's last, the pair: in one fenced transaction.

    A last response that leaves all of them equal is not stored, so that the slot is asked for again; after
    `MOST_RESAMPLES` it is stored without a pair. Raises AttemptSuperseded or JobCancelled.
    """
    with transaction.atomic():
        hold_claim(claim)
        if target.sampled.filter(prompt_id=slot.prompt_id, slot=slot.number).exists():
            return Stored.ALREADY_FILLED
        others = _others(target, slot=slot)
        is_last = target.round is not None and len(others) == target.slots_per_prompt - 1
        if is_last and slot.resamples < MOST_RESAMPLES and not any(differ(text, new.text) for text in others):
            return Stored.IDENTICAL
        prompt = Prompt.objects.select_related("study").get(pk=slot.prompt_id)
        _keep(prompt, target=target, slot=slot, new=new)
        if is_last:
            _add_pair_of(prompt, target=target)
        owned_job(claim).update(done=F("done") + 1)
    return Stored.KEPT


def differ(text: str, other: str) -> bool:
    """Return whether a person could tell two responses apart."""
    return text.strip() != other.strip()


def _others(target: Target, *, slot: Slot) -> list[str]:
    """Return the texts that are there for the prompt's other slots; held-out responses form no pair."""
    if target.round is None:
        return []
    sampled = target.sampled.filter(prompt_id=slot.prompt_id, slot__lt=target.slots_per_prompt)
    return list(sampled.exclude(slot=slot.number).values_list("response__text", flat=True))


def _add_pair_of(prompt: Prompt, *, target: Target) -> Pair | None:
    """Make the pair of a prompt whose slots are all filled; None when its responses are all the same."""
    assert target.round is not None
    sampled = target.sampled.filter(prompt=prompt, slot__lt=target.slots_per_prompt)
    rows = {row.slot: row for row in sampled.select_related("response")}
    choice = choose_pair(
        [_candidate(row) for row in rows.values()],
        rule=target.round.pair_choice,
        random_share=target.round.random_share,
        key=choice_key(prompt.content_hash, round_number=target.round.number),
    )
    if choice is None:
        return None
    pair = add_pair(
        prompt=prompt,
        response_a=rows[choice.first].response,
        response_b=rows[choice.second].response,
        batch=target.round.number,
    )
    if target.slots_per_prompt > RESPONSES_PER_PAIR:
        ChosenPair.objects.create(
            pair=pair, rule=choice.rule, candidates=choice.candidates, margin=choice.margin
        )
    return pair


def choice_key(content_hash: str, *, round_number: int) -> str:
    """Return what fixes the draws about a prompt in a round."""
    return f"{content_hash}:{round_number}"


def _candidate(row: SampledResponse) -> Candidate:
    known = row.reference_logp is not None
    return Candidate(
        slot=row.slot,
        text=row.response.text,
        tokens=len(row.token_ids),
        log_ratio=sum(row.logprobs) - row.reference_logp if known else None,
    )


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
        reference_logp=new.reference_logp,
        finish_reason=new.finish_reason,
    )
    return response


def prompts_without_pair(round: Round) -> QuerySet[Prompt]:
    """Return the prompts whose responses are all stored but form no pair."""
    paired = Pair.objects.filter(study_id=round.study_id, batch=round.number, purpose=Pair.Purpose.TRAIN)
    complete = (
        SampledResponse.objects.filter(round=round, slot__lt=round.samples_per_prompt)
        .values("prompt")
        .annotate(responses=Count("pk"))
        .filter(responses=round.samples_per_prompt)
        .values("prompt")
    )
    return Prompt.objects.filter(pk__in=complete).exclude(pk__in=paired.values("prompt"))


def pair_up(claim: Claim, *, target: Target) -> int:
    """Make the pairs whose responses are all stored, and differ, without one; returns how many."""
    if target.round is None:
        return 0
    made = 0
    for prompt in prompts_without_pair(target.round).select_related("study"):
        with transaction.atomic():
            hold_claim(claim)
            made += _add_pair_of(prompt, target=target) is not None
    return made
