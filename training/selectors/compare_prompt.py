"""One prompt through all rounds: what each policy answers, and what changed since the one before."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from annotate.models import Prompt
from annotate.word_diff import word_diff
from training.comparison.texts import word_change
from training.models import Policy, SampledResponse
from training.selectors.compare_answers import Answer, answer_of, own_scores
from training.selectors.json_length import JsonLength


@dataclass(frozen=True)
class Stage:
    """A policy's answers to the prompt, sample by sample; `round_number` is None for held-out responses.

    `changes` holds, by slot, the share of words that differ from the same sample of the stage before.
    """

    policy: Policy
    round_number: int | None
    answers: list[Answer]
    previous: Policy | None = None
    changes: tuple[float | None, ...] = ()

    @property
    def answers_and_changes(self) -> list[tuple[Answer, float | None]]:
        return list(zip(self.answers, self.changes, strict=True))


def prompt_stages(prompt: Prompt, *, with_diff: bool, beta: float) -> list[Stage]:
    """Return what the policies answered to a prompt in order, each beside the one before: two queries."""
    grouped: dict[tuple[int, int | None], list[Answer]] = defaultdict(list)
    policies: dict[int, Policy] = {}
    sampled = prompt_responses(prompt)
    scores = own_scores(sampled)
    for item in sampled:
        round_number = item.round.number if item.round else None
        policies[item.policy.number] = item.policy
        grouped[item.policy.number, round_number].append(
            answer_of(item, policy=item.policy, score=scores.get(item.pk), beta=beta)
        )
    stages: list[Stage] = []
    for (number, round_number), answers in grouped.items():
        stage = Stage(policies[number], round_number, answers)
        stages.append(beside(stage, previous=stages[-1] if stages else None, with_diff=with_diff))
    return stages


def prompt_responses(prompt: Prompt) -> list[SampledResponse]:
    rows = SampledResponse.objects.filter(prompt=prompt).select_related("response", "policy__run", "round")
    rows = rows.defer("prompt_token_ids", "token_ids", "logprobs", "settings")
    return list(
        rows.annotate(tokens=JsonLength("token_ids")).order_by("policy__number", "round__number", "slot")
    )


def beside(stage: Stage, *, previous: Stage | None, with_diff: bool) -> Stage:
    """Return the stage with its changes since the one before, and the new words marked where asked for."""
    earlier = {answer.slot: answer.text or "" for answer in previous.answers} if previous else {}
    changes = tuple(
        word_change(earlier[answer.slot], answer.text or "") if answer.slot in earlier else None
        for answer in stage.answers
    )
    answers = [marked(answer, earlier=earlier.get(answer.slot)) for answer in stage.answers]
    return replace(
        stage,
        answers=answers if with_diff else stage.answers,
        previous=previous.policy if previous else None,
        changes=changes,
    )


def marked(answer: Answer, *, earlier: str | None) -> Answer:
    """Return the answer with the words that the earlier one lacks marked; as it is when that is too long."""
    both = None if earlier is None else word_diff(earlier, answer.text or "")
    return answer if both is None else replace(answer, diff=both[1])
