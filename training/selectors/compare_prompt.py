"""One prompt through all rounds: what each policy answers, and what changed since its parent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum

from annotate.models import Prompt
from annotate.word_diff import word_diff
from training.comparison.texts import word_change
from training.models import Policy, Round, Run, SampledResponse
from training.selectors.compare_answers import Answer, answer_of, own_scores
from training.selectors.json_length import JsonLength


class Standing(Enum):
    """Whether a policy became a step of the loop; open while its round has not chosen."""

    CHOSEN = "chosen"
    PASSED = "not chosen"
    OPEN = ""


@dataclass(frozen=True)
class Stage:
    """A policy's answers to the prompt, sample by sample; `round_number` is None for held-out responses.

    `changes` holds, by slot, the share of words that differ from the same sample of `previous`, which is
    called `previous_name`. `made_in` and `beta` are the round and the β of the policy's run, if any.
    """

    policy: Policy
    round_number: int | None
    answers: list[Answer]
    standing: Standing = Standing.OPEN
    made_in: int | None = None
    beta: float | None = None
    previous: Stage | None = None
    changes: tuple[float | None, ...] = ()

    @property
    def answers_and_changes(self) -> list[tuple[Answer, float | None]]:
        return list(zip(self.answers, self.changes, strict=True))

    @property
    def previous_name(self) -> str:
        if self.previous is None:
            return ""
        if self.previous.policy == self.policy:
            return f"its answer in round {self.previous.round_number}"
        kin = "parent" if self.previous.policy.pk == self.policy.parent_id else "ancestor"
        return f"{self.previous.policy.label}, its {kin}"


def prompt_stages(prompt: Prompt, *, with_diff: bool, beta: float) -> list[Stage]:
    """Return what the policies answered to a prompt in order, each beside its parent: four queries."""
    grouped: dict[tuple[int, int | None], list[Answer]] = defaultdict(list)
    policies: dict[int, Policy] = {}
    sampled = prompt_responses(prompt)
    scores = own_scores(sampled)
    for item in sampled:
        round_number = item.round.number if item.round else None
        policies[item.policy.pk] = item.policy
        grouped[item.policy.pk, round_number].append(
            answer_of(item, policy=item.policy, score=scores.get(item.pk), beta=beta)
        )
    steps, parents = loop_steps(prompt.study_id), parents_of(prompt.study_id)
    latest: dict[int, Stage] = {}
    stages: list[Stage] = []
    for (pk, round_number), answers in grouped.items():
        stage = stage_of(policies[pk], round_number=round_number, answers=answers, steps=steps)
        previous = nearest_kin(pk, parents=parents, latest=latest)
        stages.append(beside(stage, previous=previous, with_diff=with_diff))
        latest[pk] = stage
    return stages


def stage_of(policy: Policy, *, round_number: int | None, answers: list[Answer], steps: set[int]) -> Stage:
    run: Run | None = getattr(policy, "run", None)
    if policy.number == 0:
        return Stage(policy, round_number, answers, Standing.CHOSEN)
    if run is None:
        return Stage(policy, round_number, answers)
    is_decided = run.round.chosen_policy_id is not None
    standing = Standing.CHOSEN if policy.pk in steps else Standing.PASSED if is_decided else Standing.OPEN
    beta = run.config.get("loss", {}).get("beta")
    return Stage(policy, round_number, answers, standing, made_in=run.round.number, beta=beta)


def loop_steps(study: int) -> set[int]:
    """Return the ids of the policies that a round chose or sampled: the steps of the loop. One query."""
    rounds = Round.objects.filter(study=study).order_by()
    pairs = rounds.values_list("chosen_policy", "sampled_policy")
    return {pk for pair in pairs for pk in pair if pk is not None}


def parents_of(study: int) -> dict[int, int | None]:
    """Return each policy's parent by id: one query."""
    return dict(Policy.objects.filter(study=study).order_by().values_list("pk", "parent"))


def nearest_kin(pk: int, *, parents: Mapping[int, int | None], latest: Mapping[int, Stage]) -> Stage | None:
    """Return the latest stage of the policy itself, or else of its nearest ancestor that has answered."""
    kin: int | None = pk
    while kin is not None and kin not in latest:
        kin = parents.get(kin)
    return None if kin is None else latest[kin]


def prompt_responses(prompt: Prompt) -> list[SampledResponse]:
    rows = SampledResponse.objects.filter(prompt=prompt).select_related(
        "response", "policy__run__round", "round"
    )
    rows = rows.defer("prompt_token_ids", "token_ids", "logprobs", "settings")
    return list(
        rows.annotate(tokens=JsonLength("token_ids")).order_by("policy__number", "round__number", "slot")
    )


def beside(stage: Stage, *, previous: Stage | None, with_diff: bool) -> Stage:
    """Return the stage with its changes since `previous`, and the new words marked where asked for."""
    earlier = {answer.slot: answer.text or "" for answer in previous.answers} if previous else {}
    changes = tuple(
        word_change(earlier[answer.slot], answer.text or "") if answer.slot in earlier else None
        for answer in stage.answers
    )
    answers = [marked(answer, earlier=earlier.get(answer.slot)) for answer in stage.answers]
    return replace(
        stage,
        answers=answers if with_diff else stage.answers,
        previous=previous,
        changes=changes,
    )


def marked(answer: Answer, *, earlier: str | None) -> Answer:
    """Return the answer with the words that the earlier one lacks marked; as it is when that is too long."""
    both = None if earlier is None else word_diff(earlier, answer.text or "")
    return answer if both is None else replace(answer, diff=both[1])
