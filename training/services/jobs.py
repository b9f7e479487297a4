"""The states of background work. The database is the truth; every move is a compare-and-swap.

A job is `queued → running → done | failed | cancelled`. Its `attempt_number` is the fencing token: a process
that was thought dead and comes back finds another number there, and none of its writes reaches the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from annotate.models import Study, User
from annotate.services.audit import record_audit
from training.models import Attempt, DemonstrationRun, Job, Policy, Round, Run
from training.services.carrier import enqueue_attempt
from training.services.notices import refresh_queue_notice
from training.services.processes import ProcessIdentity, this_process

LEASE = timedelta(seconds=30)
HEARTBEAT_SECONDS = 3.0
MOST_LOST_IN_A_ROW = 5
LONGEST_MESSAGE = 300


class AttemptSuperseded(Exception):
    """The attempt no longer owns its job: it must stop without another write."""


class JobCancelled(Exception):
    """Somebody asked for the job to stop."""


class MadeWay(Exception):
    """The job lets more urgent work go first; it is queued again behind it."""


class JobFailed(Exception):
    """The work cannot be done; the message is one sentence with the remedy."""


class JobRefused(Exception):
    """What was asked of a job does not fit its state; the message says why."""


@dataclass(frozen=True)
class Claim:
    """The right to write for a job, held by one attempt."""

    job_id: int
    attempt_id: int
    number: int


def create_job(
    *,
    study: Study,
    kind: Job.Kind,
    round: Round | None = None,
    policy: Policy | None = None,
    run: Run | None = None,
    demonstration_run: DemonstrationRun | None = None,
    unit: str = "",
    total: int = 0,
    actor: User | None = None,
) -> Job:
    """Create a queued job with its first attempt; a worker gets it when the transaction commits."""
    with transaction.atomic():
        job = Job.objects.create(
            study=study,
            kind=kind,
            round=round,
            policy=policy,
            run=run,
            demonstration_run=demonstration_run,
            unit=unit,
            total=total,
            created_by=actor,
        )
        enqueue_attempt(Attempt.objects.create(job=job, number=job.attempt_number))
    return job


def claim_attempt(attempt_id: int, *, process: ProcessIdentity | None = None) -> Claim:
    """Move a queued attempt and its job to running, for one process. Raises AttemptSuperseded."""
    now, process = timezone.now(), process or this_process()
    with transaction.atomic():
        mine = Attempt.objects.filter(pk=attempt_id, state=Attempt.State.QUEUED).update(
            state=Attempt.State.RUNNING,
            host=process.host,
            pid=process.pid,
            pid_started=process.started,
            started_at=now,
            lease_until=now + LEASE,
        )
        if not mine:
            raise AttemptSuperseded(f"attempt {attempt_id} is not waiting to be run")
        attempt = Attempt.objects.get(pk=attempt_id)
        moved = Job.objects.filter(
            pk=attempt.job_id, state=Job.State.QUEUED, attempt_number=attempt.number
        ).update(state=Job.State.RUNNING, started_at=now, message="", cause="")
        if not moved:
            raise AttemptSuperseded(f"job {attempt.job_id} does not wait for attempt {attempt.number}")
    return Claim(job_id=attempt.job_id, attempt_id=attempt.pk, number=attempt.number)


def heartbeat(
    claim: Claim, *, done: int | None = None, total: int | None = None, message: str | None = None
) -> None:
    """Renew the lease and write the progress. Raises AttemptSuperseded or JobCancelled."""
    written = {
        "done": done,
        "total": total,
        "message": None if message is None else message[:LONGEST_MESSAGE],
    }
    changes = {name: value for name, value in written.items() if value is not None}
    with transaction.atomic():
        hold_claim(claim)
        if changes:
            owned_job(claim).update(**changes)
        Attempt.objects.filter(pk=claim.attempt_id).update(lease_until=timezone.now() + LEASE)


def hold_claim(claim: Claim) -> None:
    """Fence the surrounding transaction: what it writes counts only if this attempt still owns the job.

    The update locks the job's row, so neither a cancel nor another attempt can slip in before the commit.
    Raises AttemptSuperseded or JobCancelled.
    """
    if owned_job(claim).filter(cancel_requested=False).update(attempt_number=claim.number):
        return
    if owned_job(claim).exists():
        raise JobCancelled
    raise AttemptSuperseded(f"attempt {claim.number} no longer owns job {claim.job_id}")


def owned_job(claim: Claim) -> QuerySet[Job]:
    """Return the job's row if the attempt owns it, else nothing."""
    return Job.objects.filter(pk=claim.job_id, state=Job.State.RUNNING, attempt_number=claim.number)


def finish_attempt(claim: Claim, *, message: str = "") -> None:
    """Move the job to done, inside the transaction that writes its result. Raises AttemptSuperseded.

    `message` is a remark that stays on the finished job.
    """
    _close(claim, state="done", message=message)


def fail_attempt(claim: Claim, *, cause: str) -> None:
    """Move the job to failed; `cause` is what the person reads. Raises AttemptSuperseded."""
    _close(claim, state="failed", cause=cause)


def cancel_attempt(claim: Claim) -> None:
    """Move the job to cancelled, once its work has stopped. Raises AttemptSuperseded."""
    _close(claim, state="cancelled")


def make_way() -> None:
    """Raise MadeWay when training waits: people wait for it, and nobody for what calls this."""
    if Job.objects.filter(kind__in=(Job.Kind.RUN, Job.Kind.SFT), state=Job.State.QUEUED).exists():
        raise MadeWay


def requeue_attempt(claim: Claim, *, message: str) -> None:
    """Put the job back into its queue with a new attempt. Raises AttemptSuperseded."""
    now = timezone.now()
    with transaction.atomic():
        moved = owned_job(claim).update(
            state=Job.State.QUEUED, attempt_number=claim.number + 1, message=message[:LONGEST_MESSAGE]
        )
        if not moved:
            raise AttemptSuperseded(f"attempt {claim.number} no longer owns job {claim.job_id}")
        Attempt.objects.filter(pk=claim.attempt_id).update(state=Attempt.State.MADE_WAY, finished_at=now)
        enqueue_attempt(Attempt.objects.create(job_id=claim.job_id, number=claim.number + 1))


def _close(claim: Claim, *, state: str, cause: str = "", message: str = "") -> None:
    now = timezone.now()
    with transaction.atomic():
        if not owned_job(claim).update(
            state=state, cause=cause, message=message[:LONGEST_MESSAGE], finished_at=now
        ):
            raise AttemptSuperseded(f"attempt {claim.number} no longer owns job {claim.job_id}")
        Attempt.objects.filter(pk=claim.attempt_id).update(state=state, cause=cause, finished_at=now)
        refresh_queue_notice(Job.objects.select_related("study").get(pk=claim.job_id).study)


def request_cancel(*, job: Job, actor: User | None = None) -> None:
    """Cancel a queued job at once; ask a running one to stop, which it does within a second or so.

    Raises JobRefused when the job has already ended.
    """
    now = timezone.now()
    with transaction.atomic():
        if Job.objects.filter(pk=job.pk, state=Job.State.QUEUED).update(
            state=Job.State.CANCELLED, cancel_requested=True, message="", finished_at=now
        ):
            job.attempts.filter(state=Attempt.State.QUEUED).update(
                state=Attempt.State.CANCELLED, finished_at=now
            )
        elif not Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(
            cancel_requested=True, message="Stopping"
        ):
            job.refresh_from_db()
            raise JobRefused(
                f"The job is already {job.get_state_display().lower()}; there is nothing to cancel."
            )
        record_audit(
            study=job.study, actor=actor, action="job.cancelled", details={"job": job.pk, "kind": job.kind}
        )
        refresh_queue_notice(job.study)


def hold_round(round_id: int) -> None:
    """Lock a round's row until the transaction ends: what is then read of its runs stays true."""
    Round.objects.filter(pk=round_id).update(state=F("state"))


def retry_job(*, job: Job, actor: User | None = None) -> None:
    """Queue another attempt at a failed or cancelled job. Raises JobRefused."""
    with transaction.atomic():
        if job.round_id is not None:
            hold_round(job.round_id)
            job = Job.objects.select_related("round", "study").get(pk=job.pk)
        _check_retry(job)
        if not Job.objects.filter(
            pk=job.pk, state__in=[Job.State.FAILED, Job.State.CANCELLED], attempt_number=job.attempt_number
        ).update(
            state=Job.State.QUEUED,
            attempt_number=job.attempt_number + 1,
            cancel_requested=False,
            cause="",
            message="",
            finished_at=None,
        ):
            job.refresh_from_db()
            raise JobRefused(
                f"The job is {job.get_state_display().lower()}; only a failed or cancelled one is retried."
            )
        job.refresh_from_db()
        enqueue_attempt(Attempt.objects.create(job=job, number=job.attempt_number))
        record_audit(
            study=job.study, actor=actor, action="job.retried", details={"job": job.pk, "kind": job.kind}
        )
        refresh_queue_notice(job.study)


def _check_retry(job: Job) -> None:
    """Refuse what would work on a round that has moved on. Raises JobRefused."""
    if job.kind == Job.Kind.SAMPLING and job.round and job.round.state != Round.State.COLLECTING:
        raise JobRefused(
            f"Round {job.round.number} no longer collects pairs; open the next round to sample more."
        )
    if job.kind == Job.Kind.SFT and job.study.rounds.exists():
        raise JobRefused("A round has been opened; the reference of the study never changes after that.")
    others = Job.objects.filter(study=job.study, kind=job.kind).exclude(pk=job.pk)
    if job.kind == Job.Kind.SFT and others.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING]).exists():
        raise JobRefused("Another run on demonstrations is under way; wait for it or cancel it first.")
    if job.kind != Job.Kind.RUN or job.round is None:
        return
    if job.round.state not in (Round.State.TRAINING, Round.State.TRAINED):
        raise JobRefused(
            f"Round {job.round.number} is {job.round.get_state_display().lower()}; train on the newest round."
        )


def replace_lost_attempt(attempt: Attempt) -> Job.State:
    """Give the job of a running attempt whose process died a new attempt, and return the job's new state.

    A cancelled job ends; so does one whose process has died too often in a row. Raises AttemptSuperseded when
    the attempt moved on meanwhile.
    """
    with transaction.atomic():
        job = Job.objects.get(pk=attempt.job_id)
        too_often = _lost_in_a_row(job) + 1 >= MOST_LOST_IN_A_ROW
        if job.cancel_requested:
            state, attempt_state, cause = Job.State.CANCELLED, Attempt.State.CANCELLED, ""
        elif too_often:
            state, attempt_state, cause = Job.State.FAILED, Attempt.State.FAILED, _cause_of_loss(attempt)
        else:
            state, attempt_state, cause = Job.State.QUEUED, Attempt.State.LOST, ""
        _replace(attempt, state=state, attempt_state=attempt_state, cause=cause)
        refresh_queue_notice(job.study)
    return state


def _replace(attempt: Attempt, *, state: Job.State, attempt_state: Attempt.State, cause: str) -> None:
    now, again = timezone.now(), state == Job.State.QUEUED
    lost = Attempt.objects.filter(pk=attempt.pk, state=Attempt.State.RUNNING)
    owned = Job.objects.filter(pk=attempt.job_id, state=Job.State.RUNNING, attempt_number=attempt.number)
    moved = owned.update(
        state=state,
        cause=cause,
        message="Its process died; starting again" if again else "",
        attempt_number=attempt.number + (1 if again else 0),
        finished_at=None if again else now,
    )
    if not (lost.update(state=attempt_state, cause=cause or "Its process died.", finished_at=now) and moved):
        raise AttemptSuperseded(f"attempt {attempt.pk} moved on by itself")
    if again:
        enqueue_attempt(Attempt.objects.create(job_id=attempt.job_id, number=attempt.number + 1))


def _lost_in_a_row(job: Job) -> int:
    """Return how many attempts before the current one were lost, back to the last that ended otherwise."""
    states = (
        job.attempts.exclude(number=job.attempt_number).order_by("-number").values_list("state", flat=True)
    )
    lost = 0
    for state in states:
        if state != Attempt.State.LOST:
            break
        lost += 1
    return lost


def _cause_of_loss(attempt: Attempt) -> str:
    return (
        f"Its process on {attempt.host} died {MOST_LOST_IN_A_ROW} times in a row, last as pid {attempt.pid}; "
        "look into the worker's log and the machine's memory, then retry."
    )
