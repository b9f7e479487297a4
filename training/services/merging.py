"""A policy as one model folder: base and adapter merged by a background job."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from annotate.models import User
from annotate.services.audit import record_audit
from training.core.run.directory import RunDirectory, write_run_directory
from training.models import Job, Policy
from training.services.jobs import Claim, JobFailed, JobRefused, create_job, finish_attempt, retry_job
from training.services.run_directories import absolute, scoring_config
from training.services.runs import LOG_FILE, Progress, execute_run

MODULE = "training.core.merge"
PARTS = 3
# A line of the log for each part that is done.
PART_DONE = b'"doing": "merge"'


def merge_directory(policy: Policy) -> str:
    """Return where the merged model is made, below STUDIO_HOME; the model itself is `model/` in it."""
    return f"runs/{policy.study.slug}/policy-{policy.number}-merged"


def is_merged(policy: Policy) -> bool:
    """Return whether the merged model is there, whole."""
    return RunDirectory(absolute(merge_directory(policy))).result.exists()


def start_merge(*, policy: Policy, actor: User | None = None) -> Job:
    """Queue the merging of a policy, or another attempt at it. Raises JobRefused."""
    if not policy.adapter_path:
        raise JobRefused(f"{policy.label} has no adapter to merge; it is the base model itself.")
    job = Job.objects.filter(policy=policy, kind=Job.Kind.MERGE).first()
    if job is not None:
        _check_again(job, policy=policy)
        retry_job(job=job, actor=actor)
        return job
    try:
        with transaction.atomic():
            created = create_job(
                study=policy.study, kind=Job.Kind.MERGE, policy=policy, unit="parts", total=PARTS, actor=actor
            )
            record_audit(
                study=policy.study, actor=actor, action="merge.started", details={"policy": policy.number}
            )
    except IntegrityError as error:
        raise JobRefused(f"{policy.label} is being merged already.") from error
    return created


def _check_again(job: Job, *, policy: Policy) -> None:
    if job.is_active:
        raise JobRefused(f"{policy.label} is being merged already.")
    if job.state == Job.State.DONE:
        if is_merged(policy):
            raise JobRefused(f"{policy.label} is merged already; download it.")
        # Its folder has been removed since: as after a failure, the job is done once more.
        Job.objects.filter(pk=job.pk, state=Job.State.DONE).update(state=Job.State.CANCELLED)


def merge_policy(claim: Claim) -> None:
    """Merge the job's policy in a process of its own; finishes the attempt."""
    job = Job.objects.select_related("policy__study__recipe").get(pk=claim.job_id)
    if job.policy is None:
        raise JobFailed("The policy of this job is gone; there is nothing to merge.")
    directory = absolute(merge_directory(job.policy))
    if not RunDirectory(directory).config.exists():
        write_run_directory(directory, config=scoring_config(job.policy), examples=())
    (directory / LOG_FILE).unlink(missing_ok=True)
    execute_run(claim, directory=directory, progress=merging_progress, module=MODULE)
    with transaction.atomic():
        finish_attempt(claim, message="The merged model can be downloaded from the policy's page.")
        Job.objects.filter(pk=job.pk).update(done=PARTS, total=PARTS)


def merging_progress(run: RunDirectory) -> Progress:
    """Return how many parts of the merging are done, by the log of this attempt."""
    try:
        said = (run.path / LOG_FILE).read_bytes().count(PART_DONE)
    except FileNotFoundError:
        said = 0
    return Progress(done=min(said, PARTS), total=PARTS)
