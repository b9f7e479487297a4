"""Blind pairs of two policies' held-out responses, put into the labelling queue.

A policy meets the SFT reference and its parent (the policy that its round sampled). Each comparison is made
at most once per prompt and slot, whatever runs twice.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction

from annotate.models import Pair, Prompt, Response, Split, Study, User
from annotate.services.audit import record_audit
from annotate.services.pairs import add_pair
from training.models import EvaluationPair, EvaluationPlan, Job, Policy, SampledResponse
from training.selectors.asked_pairs import ASKED
from training.selectors.evaluation_rows import NO_ROUND
from training.selectors.json_length import JsonLength
from training.services.asked_pairs import put_back
from training.services.jobs import Claim, hold_claim
from training.services.slots import differ

MOST_AT_ONCE = 200


class EvaluationRefused(Exception):
    """No pairs can be asked for now; the message says why."""


@dataclass(frozen=True)
class Candidate:
    """A comparison that could be made."""

    opponent: int
    prompt: int
    slot: int


@dataclass(frozen=True)
class Answer:
    """A held-out response as it is needed here."""

    response: int
    text: str
    tokens: int


Answers = dict[tuple[int, int, int], Answer]


def plan_of(study: Study) -> EvaluationPlan:
    """Return the study's plan, or the defaults where it has set nothing."""
    return EvaluationPlan.objects.filter(study=study).first() or EvaluationPlan(study=study)


def opponents_of(policy: Policy) -> list[Policy]:
    """Return whom a policy meets: the reference, its parent, and the policy that its round sampled."""
    if policy.number == 0:
        return []
    reference = Policy.objects.get(study_id=policy.study_id, number=0)
    run = getattr(policy, "run", None)
    others = [policy.parent, run.round.sampled_policy if run else None]
    return list(dict.fromkeys([reference, *(other for other in others if other is not None)]))


def pairs_to_ask(policy: Policy) -> int:
    """Return how many evaluation pairs make up the plan's share beside the pairs of the policy's round.

    The policies that a round's runs give share them.
    """
    run = getattr(policy, "run", None)
    if run is None:
        return 0
    share = plan_of(policy.study).evaluation_share
    training = Pair.objects.filter(
        study_id=policy.study_id, batch=run.round.number, purpose=Pair.Purpose.TRAIN
    ).exclude(state=Pair.State.WITHDRAWN)
    runs = run.round.runs.exclude(job__state__in=[Job.State.FAILED, Job.State.CANCELLED]).count()
    asked: float = training.count() * share / (1 - share) / max(1, runs)
    return round(asked)


def ask_for_evaluation(claim: Claim, *, sampled: Policy) -> int:
    """Make the pairs that a policy's held-out responses allow: its own, and of policies whose opponent it is.

    Returns how many were made. Raises AttemptSuperseded or JobCancelled.
    """
    policies = Policy.objects.filter(study_id=sampled.study_id, number__gt=0).select_related(
        "study", "parent", "run__round__sampled_policy"
    )
    made = 0
    for policy in policies:
        if policy == sampled or sampled in opponents_of(policy):
            asked = EvaluationPair.objects.filter(policy=policy, pair__isnull=False).count()
            made += len(_make(policy, wanted=max(0, pairs_to_ask(policy) - asked), claim=claim))
    return made


def ask_for_more(*, policy: Policy, pairs: int, actor: User | None) -> int:
    """Put more blind pairs of the policy into the queue and return how many. Raises EvaluationRefused.

    Pairs that were asked for earlier and taken back come first.
    """
    if not 1 <= pairs <= MOST_AT_ONCE:
        raise EvaluationRefused(f"pairs = {pairs} must lie between 1 and {MOST_AT_ONCE}; 20 is usual.")
    with transaction.atomic():
        made = put_back(policy, pairs=pairs, actor=actor) if actor else []
        made += _make(policy, wanted=pairs - len(made), claim=None)
        if not made:
            raise EvaluationRefused(
                f"{policy.label} has no held-out response left that was not compared yet; import more "
                "held-out prompts, or wait until it has been sampled."
            )
        record_audit(
            study=policy.study,
            actor=actor,
            action=ASKED,
            details={"policy": policy.number, "pairs": len(made), "asked": made},
        )
    return len(made)


def _make(policy: Policy, *, wanted: int, claim: Claim | None) -> list[int]:
    """Make up to `wanted` pairs, each in a transaction of its own; identical texts are noted beside them.

    Returns the ids of the pairs.
    """
    answers = _answers(policy)
    made: list[int] = []
    for candidate in _rotation(policy, answers=answers):
        if len(made) >= wanted:
            break
        with transaction.atomic():
            if claim is not None:
                hold_claim(claim)
            pair = _compare(policy, candidate=candidate, answers=answers)
        made += [pair] if pair else []
    return made


def _answers(policy: Policy) -> Answers:
    """Return the held-out responses of the policy and its opponents by (policy, prompt, slot)."""
    everyone = [policy, *opponents_of(policy)]
    rows = SampledResponse.objects.filter(
        policy__in=everyone, round=None, prompt__split=Split.HELDOUT
    ).annotate(tokens=JsonLength("token_ids"))
    names = ("policy_id", "prompt_id", "slot", "response_id", "response__text", "tokens")
    return {
        (policy_id, prompt_id, slot): Answer(response, text, tokens)
        for policy_id, prompt_id, slot, response, text, tokens in rows.values_list(*names)
    }


def _rotation(policy: Policy, *, answers: Answers) -> Iterable[Candidate]:
    """Yield what is still to compare: opponents in turn, each prompt before any prompt comes again."""
    opponents = [opponent.pk for opponent in opponents_of(policy)]
    earlier = EvaluationPair.objects.filter(study_id=policy.study_id)
    all_uses = Counter(earlier.values_list("prompt_id", flat=True))
    mine = list(earlier.filter(policy=policy).values_list("opponent_id", "prompt_id", "slot"))
    uses, met = Counter(prompt for _, prompt, _ in mine), Counter(opponent for opponent, _, _ in mine)
    left = {
        opponent: {
            (prompt, slot)
            for author, prompt, slot in answers
            if author == policy.pk and (opponent, prompt, slot) in answers
        }
        - {(prompt, slot) for rival, prompt, slot in mine if rival == opponent}
        for opponent in opponents
    }
    while any(left.values()):
        opponent = min((rival for rival in opponents if left[rival]), key=lambda rival: met[rival])
        prompt, slot = min(
            left[opponent],
            key=lambda place: (uses[place[0]], all_uses[place[0]], _mixed(policy, *place), place),
        )
        left[opponent].discard((prompt, slot))
        uses[prompt] += 1
        met[opponent] += 1
        yield Candidate(opponent, prompt, slot)


def _compare(policy: Policy, *, candidate: Candidate, answers: Answers) -> int | None:
    """Write one comparison down; returns the id of its pair where there is something to ask."""
    own = answers[policy.pk, candidate.prompt, candidate.slot]
    other = answers[candidate.opponent, candidate.prompt, candidate.slot]
    policy_is_a = _mixed(policy, candidate.opponent, candidate.prompt, candidate.slot) % 2 == 0
    asks = differ(own.text, other.text)
    first, second = (own, other) if policy_is_a else (other, own)
    row, created = EvaluationPair.objects.get_or_create(
        policy=policy,
        opponent_id=candidate.opponent,
        prompt_id=candidate.prompt,
        slot=candidate.slot,
        defaults={
            "study_id": policy.study_id,
            "pair": _queued(candidate.prompt, first=first, second=second) if asks else None,
            "policy_is_a": policy_is_a,
            "policy_tokens": own.tokens,
            "opponent_tokens": other.tokens,
        },
    )
    return row.pair_id if created else None


def _queued(prompt_id: int, *, first: Answer, second: Answer) -> Pair:
    responses = Response.objects.in_bulk([first.response, second.response])
    return add_pair(
        prompt=Prompt.objects.select_related("study").get(pk=prompt_id),
        response_a=responses[first.response],
        response_b=responses[second.response],
        batch=NO_ROUND,
        purpose=Pair.Purpose.EVALUATE,
    )


def _mixed(policy: Policy, *numbers: int) -> int:
    """Return a number that looks drawn by chance and is always the same."""
    text = ":".join(map(str, (policy.served_name, *numbers)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")
