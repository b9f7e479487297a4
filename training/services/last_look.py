"""What a run did to each of its examples: looked up once its policy is there, since nobody waits for it.

Publishing, and sampling the next round, need a run's weights alone; the look takes half as long as training.
"""

from __future__ import annotations

import json

from django.db import transaction
from django.db.models import F

from training.core.run.directory import RunDirectory
from training.models import Job, Policy, Run
from training.services.jobs import Claim, JobFailed, create_job, finish_attempt, make_way
from training.services.run_directories import absolute
from training.services.runs import Progress, execute_run, said_progress

DOING = "last look"


def create_last_look(*, policy: Policy, examples: int) -> Job:
    """Queue the look of a new policy at the examples that it was trained on."""
    return create_job(
        study=policy.study, kind=Job.Kind.LAST_LOOK, policy=policy, unit="examples", total=examples
    )


def take_last_look(claim: Claim) -> None:
    """Look at every example of the policy's run and complete the run's result."""
    job = Job.objects.select_related("policy__run").get(pk=claim.job_id)
    run = getattr(job.policy, "run", None)
    if run is None:
        raise JobFailed("The run of this policy is gone; there is nothing to look at.")
    directory = RunDirectory(absolute(run.directory))
    if not directory.is_trained:
        raise JobFailed(
            "The run directory is gone or damaged; the policy itself is not. Restore the directory from a "
            "backup, then retry."
        )
    execute_run(claim, directory=directory.path, progress=_progress, is_polite=True)
    result = json.loads(directory.result.read_text(encoding="utf-8"))
    with transaction.atomic():
        finish_attempt(claim)
        Job.objects.filter(pk=job.pk).update(done=F("total"))
        Run.objects.filter(pk=run.pk).update(result=result)


def _progress(run: RunDirectory) -> Progress:
    make_way()
    return said_progress(run, doing=DOING)
