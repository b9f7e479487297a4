"""The responses that a page of the comparison shows, with their figures and the word diff."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from django.db.models import F
from django.utils.safestring import SafeString

from annotate.models import Prompt
from annotate.word_diff import word_diff
from training.models import Policy, SampledResponse, Score
from training.selectors.compare_order import Change
from training.selectors.compare_query import Columns
from training.selectors.compare_verdicts import Votes
from training.selectors.json_length import JsonLength

FINISH = {"stop": "ended by itself", "length": "cut at the length limit"}


@dataclass(frozen=True)
class Answer:
    """One policy's response to one prompt; `text` is None while it has not been sampled.

    `log_ratio` is log π − log π_ref of this response in nats: one draw of the KL estimate.
    """

    policy: Policy
    text: str | None = None
    slot: int = 0
    tokens: int = 0
    was_cut: bool = False
    finish_reason: str = ""
    reward: float | None = None
    log_ratio: float | None = None
    diff: SafeString | None = None

    @property
    def finish(self) -> str:
        return FINISH.get(self.finish_reason, self.finish_reason)

    @property
    def words(self) -> int:
        return len((self.text or "").split())


@dataclass(frozen=True)
class CompareRow:
    """A held-out prompt with one answer a column; `change` is None until both compared policies answered."""

    prompt: Prompt
    answers: list[Answer]
    change: Change | None
    votes: Votes
    diff_is_too_long: bool = False


def beta_of(policy: Policy, *, default: float) -> float:
    """Return the β that the policy's run trained with; `default` for the reference."""
    run = getattr(policy, "run", None)
    return float(run.config.get("loss", {}).get("beta", default)) if run else default


def answers_of(
    prompts: Iterable[Prompt], *, policies: Sequence[Policy], slot: int, beta: float
) -> dict[tuple[int, int], Answer]:
    """Return the answers of a page by (prompt id, policy id): two queries. `beta` is for policy 0."""
    sampled = (
        SampledResponse.objects.filter(prompt__in=prompts, policy__in=policies, round=None, slot=slot)
        .select_related("response")
        .defer("prompt_token_ids", "token_ids", "logprobs", "settings")
        .annotate(tokens=JsonLength("token_ids"))
    )
    found = list(sampled)
    by_pk = {policy.pk: policy for policy in policies}
    scores = own_scores(found)
    return {
        (item.prompt_id, item.policy_id): answer_of(
            item, policy=by_pk[item.policy_id], score=scores.get(item.pk), beta=beta
        )
        for item in found
    }


def own_scores(found: Sequence[SampledResponse]) -> dict[int, Score]:
    """Return each response's score under the policy that wrote it."""
    own = Score.objects.filter(sampled__in=[item.pk for item in found], sampled__policy=F("policy"))
    return {score.sampled_id: score for score in own}


def answer_of(item: SampledResponse, *, policy: Policy, score: Score | None, beta: float) -> Answer:
    """Return the answer of a response that was read with its `tokens` counted."""
    return Answer(
        policy=policy,
        text=item.response.text,
        slot=item.slot,
        tokens=item.tokens,  # type: ignore[attr-defined]  # annotated by whoever read it
        was_cut=item.response.was_cut,
        finish_reason=item.finish_reason,
        reward=score.reward(beta=beta_of(policy, default=beta)) if score else None,
        log_ratio=score.policy_logp - score.reference_logp if score else None,
    )


def with_diff(row: CompareRow, *, columns: Columns) -> CompareRow:
    """Return the row with the differing words marked in the two compared columns, if both have answered."""
    texts = {item.policy.pk: item.text for item in row.answers if item.text is not None}
    if columns.compared is None or not {policy.pk for policy in columns.compared} <= texts.keys():
        return row
    before, after = columns.compared
    marked = word_diff(texts[before.pk], texts[after.pk])
    if marked is None:
        return replace(row, diff_is_too_long=True)
    shown = {before.pk: marked[0], after.pk: marked[1]}
    return replace(row, answers=[replace(item, diff=shown.get(item.policy.pk)) for item in row.answers])
