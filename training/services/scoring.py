"""Held-out responses under a policy and the reference: implicit rewards, and distance travelled.

A policy scores its own responses and those of its rivals in blind evaluation (the reference, its parent, the
policy that its round sampled): so it shows whether it ranks the responses of an evaluation pair as the
verdicts do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from django.db import transaction
from django.db.models import Case, Q, QuerySet, When

from annotate.models import Split
from training.core.run.directory import RunDirectory, ScoreExample, write_run_directory
from training.core.run.records import read_scores
from training.models import Job, Policy, SampledResponse, Score
from training.services.comparison import refresh_summaries
from training.services.evaluation_pairs import opponents_of
from training.services.jobs import Claim, JobFailed, create_job, finish_attempt, heartbeat
from training.services.run_directories import absolute, scoring_config
from training.services.runs import execute_run, scoring_progress

RIVAL_PROMPTS = 200


def create_scoring_job(*, policy: Policy) -> Job | None:
    """Queue the scoring of a policy's held-out responses; the reference needs none, its log-ratios are 0."""
    if policy.number == 0 or Job.objects.filter(policy=policy, kind=Job.Kind.SCORING).exists():
        return None
    total = scored_responses(policy).count()
    return create_job(
        study=policy.study, kind=Job.Kind.SCORING, policy=policy, unit="completions", total=total
    )


def score_policy(claim: Claim) -> None:
    """Score every held-out response of the job's policy and of its rivals and write the scores down."""
    job = Job.objects.select_related("policy__study__recipe").get(pk=claim.job_id)
    if job.policy is None:
        raise JobFailed("The policy of this job is gone; there is nothing to score.")
    responses = list(scored_responses(job.policy))
    if not any(response.policy_id == job.policy.pk for response in responses):
        raise JobFailed("The policy has no held-out responses yet; retry when they have been sampled.")
    heartbeat(claim, total=len(responses))
    # A directory per attempt: held-out responses may have been added since an earlier one.
    directory = absolute(
        f"runs/{job.study.slug}/policy-{job.policy.number}-scores-{claim.job_id}-{claim.number}"
    )
    if not RunDirectory(directory).config.exists():
        write_run_directory(directory, config=scoring_config(job.policy), examples=score_examples(responses))
    execute_run(claim, directory=directory, progress=scoring_progress)
    _write_scores(claim, policy=job.policy, responses=responses, directory=RunDirectory(directory))


def scored_responses(policy: Policy) -> QuerySet[SampledResponse]:
    """Return the held-out responses that the policy scores, prompt by prompt: its own, then its rivals'.

    Rivals' responses count on the first `RIVAL_PROMPTS` held-out prompts alone: enough for a margin, and a
    large study does not score everything once for each of them.
    """
    first = policy.study.prompts.filter(split=Split.HELDOUT).order_by("position", "pk")[:RIVAL_PROMPTS]
    rivals = Q(policy__in=opponents_of(policy))
    wanted = Q(policy=policy) | rivals & Q(prompt__in=list(first.values_list("pk", flat=True)))
    rows = SampledResponse.objects.filter(wanted, policy__study=policy.study_id, round=None)
    own_first = Case(When(policy=policy, then=0), default=1)
    ordered = rows.order_by("prompt__position", "prompt_id", own_first, "policy__number", "slot")
    return ordered.select_related("prompt", "response")


def score_examples(responses: list[SampledResponse]) -> Iterator[ScoreExample]:
    """Yield an example per prompt, its completions in the order of their slots."""
    for prompt_id, group in groupby(responses, key=lambda sampled: sampled.prompt_id):
        rows = list(group)
        yield ScoreExample(
            id=f"prompt-{prompt_id}",
            prompt=tuple(rows[0].prompt.messages),
            completions=tuple(({"role": "assistant", "content": row.response.text},) for row in rows),
            prompt_token_ids=tuple(rows[0].prompt_token_ids),
            completions_token_ids=tuple(tuple(row.token_ids) for row in rows),
        )


def _write_scores(
    claim: Claim, *, policy: Policy, responses: list[SampledResponse], directory: RunDirectory
) -> None:
    grouped = {
        f"prompt-{prompt_id}": list(group)
        for prompt_id, group in groupby(responses, key=lambda sampled: sampled.prompt_id)
    }
    rows = [
        Score(
            sampled=grouped[record.id][record.index],
            policy=policy,
            policy_logp=record.policy_logp,
            reference_logp=record.reference_logp,
        )
        for record in read_scores(directory.scores)
    ]
    with transaction.atomic():
        finish_attempt(claim)
        Score.objects.filter(policy=policy, sampled__in=responses).delete()
        Score.objects.bulk_create(rows)
    refresh_summaries([policy], tag="", seconds=None)
