"""The door that RQ workers come in by: claim the attempt, call its service, write down how it ended."""

import logging
from collections.abc import Callable

from training.models import Job
from training.parent_death import die_with_parent
from training.services.demonstrations import learn
from training.services.jobs import (
    AttemptSuperseded,
    Claim,
    JobCancelled,
    JobFailed,
    MadeWay,
    cancel_attempt,
    claim_attempt,
    fail_attempt,
    requeue_attempt,
)
from training.services.last_look import take_last_look
from training.services.merging import merge_policy
from training.services.publishing import run_and_publish
from training.services.reference_logps import compute_reference
from training.services.sampling import sample_heldout, sample_round
from training.services.scoring import score_policy

logger = logging.getLogger(__name__)

# Each service finishes its attempt itself, in the transaction that writes the job's result.
SERVICES: dict[str, Callable[[Claim], None]] = {
    Job.Kind.SAMPLING: sample_round,
    Job.Kind.HELDOUT: sample_heldout,
    Job.Kind.RUN: run_and_publish,
    Job.Kind.LAST_LOOK: take_last_look,
    Job.Kind.SCORING: score_policy,
    Job.Kind.REFERENCE: compute_reference,
    Job.Kind.MERGE: merge_policy,
    Job.Kind.SFT: learn,
}


def run_attempt(attempt: int) -> None:
    """Run one attempt in RQ's work-horse, which dies with its worker: a killed worker leaves no orphan."""
    die_with_parent()
    perform_attempt(attempt)


def perform_attempt(attempt: int) -> None:
    """Claim the attempt and do its work. Nothing is raised: how it ended is in the database."""
    try:
        claim = claim_attempt(attempt)
        try:
            perform(claim)
        except JobCancelled:
            cancel_attempt(claim)
        except MadeWay:
            requeue_attempt(claim, message="Waiting for a job that people wait for")
        except JobFailed as failure:
            fail_attempt(claim, cause=str(failure))
    except AttemptSuperseded as superseded:
        logger.info("stopping: %s", superseded)


def perform(claim: Claim) -> None:
    """Call the service of the job's kind; what it did not foresee becomes a JobFailed with a cause."""
    try:
        SERVICES[Job.objects.values_list("kind", flat=True).get(pk=claim.job_id)](claim)
    except (AttemptSuperseded, JobCancelled, MadeWay, JobFailed):
        raise
    except Exception as error:
        logger.exception("job %s failed", claim.job_id)
        raise JobFailed(
            f"Something unforeseen happened ({type(error).__name__}: {error}). The worker's log has the "
            "whole story; retry the job, it goes on where it stopped."
        ) from error
