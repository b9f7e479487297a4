"""Held-out responses under their own policy and the reference: implicit rewards, and distance travelled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from django.db import transaction
from django.db.models import QuerySet

from training.core.run.directory import RunDirectory, ScoreExample, write_run_directory
from training.core.run.records import read_scores
from training.models import Job, Policy, SampledResponse, Score
from training.services.jobs import Claim, JobFailed, create_job, finish_attempt, heartbeat
from training.services.run_directories import absolute, scoring_config
from training.services.runs import execute_run, scoring_progress


def create_scoring_job(*, policy: Policy) -> Job | None:
    """Queue the scoring of a policy's held-out responses; the reference needs none, its log-ratios are 0."""
    if policy.number == 0 or Job.objects.filter(policy=policy, kind=Job.Kind.SCORING).exists():
        return None
    total = heldout_responses(policy).count()
    return create_job(
        study=policy.study, kind=Job.Kind.SCORING, policy=policy, unit="completions", total=total
    )


def score_policy(claim: Claim) -> None:
    """Score every held-out response of the job's policy and write the scores down."""
    job = Job.objects.select_related("policy__study__recipe").get(pk=claim.job_id)
    if job.policy is None:
        raise JobFailed("The policy of this job is gone; there is nothing to score.")
    responses = list(heldout_responses(job.policy))
    if not responses:
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


def heldout_responses(policy: Policy) -> QuerySet[SampledResponse]:
    """Return the policy's held-out responses, prompt by prompt, slot by slot."""
    rows = SampledResponse.objects.filter(policy=policy, round=None).select_related("prompt", "response")
    return rows.order_by("prompt__position", "prompt_id", "slot")


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
