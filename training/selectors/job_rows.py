"""Background jobs as people see them: progress, time left, why one failed and what can be done."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, Subquery
from django.utils import timezone

from annotate.models import Study
from training.evaluation.words import with_minus
from training.models import Attempt, Job, Policy, Round
from training.services.jobs import HEARTBEAT_SECONDS, LEASE

# A rate from the first moments misleads: say nothing about the time left before this much has been seen.
SECONDS_BEFORE_ESTIMATE = 5
# A worker that misses this many heartbeats in a row is worth a word.
HEARTBEATS_MISSED = 4

# What a line about a job says: of the job itself, and of what it works for.
OF_JOB = (
    "study",
    "kind",
    "state",
    "done",
    "total",
    "unit",
    "message",
    "cause",
    "attempt_number",
    "cancel_requested",
    "started_at",
    "finished_at",
    "created_at",
)
OF_SUBJECT = (
    "round__number",
    "round__state",
    "round__sampled_policy__number",
    "policy__number",
    "run__number",
    "run__round__number",
    "run__round__state",
    "demonstration_run__examples",
)

CONSEQUENCES = {
    Job.Kind.SAMPLING: "Pairs that exist stay and can be labelled; no more are made until you retry.",
    Job.Kind.HELDOUT: "Responses that exist stay; the comparison lacks the rest until you retry.",
    Job.Kind.RUN: "No policy comes of this run. Labels and settings stay; the run can be started again.",
    Job.Kind.LAST_LOOK: "The policy stays; its accuracy and margins stay unknown until you retry.",
    Job.Kind.SCORING: "The comparison lacks implicit rewards until you retry.",
    Job.Kind.REFERENCE: "Nothing is lost: training computes the rest itself, and takes that much longer.",
    Job.Kind.SFT: "The study keeps the base model it has; the run can be started again.",
    Job.Kind.MERGE: "No merged model comes of it; the adapter stays, and the job can be retried.",
}

# The states of its round in which a job that failed or was cancelled may go on; the others always may.
RETRIED_IN = {
    Job.Kind.SAMPLING: (Round.State.COLLECTING,),
    Job.Kind.RUN: (Round.State.TRAINING, Round.State.TRAINED),
    Job.Kind.REFERENCE: (Round.State.COLLECTING,),
}


@dataclass(frozen=True)
class JobRow:
    """One job. `seconds_left` is None while it cannot be told, `silent_seconds` while its worker is heard."""

    pk: int
    kind: str
    title: str
    state: str
    state_label: str
    done: int
    total: int
    unit: str
    message: str
    cause: str
    attempt_number: int
    cancel_requested: bool
    cancel_consequence: str
    seconds_taken: float | None
    seconds_left: float | None
    silent_seconds: float | None
    round_id: int | None
    policy_id: int | None
    run_id: int | None
    demonstration_run_id: int | None
    round_number: int | None
    round_state: str
    is_superseded: bool = False

    @property
    def is_sampling(self) -> bool:
        return self.kind == Job.Kind.SAMPLING

    @property
    def is_run(self) -> bool:
        return self.kind == Job.Kind.RUN

    @property
    def is_last_look(self) -> bool:
        return self.kind == Job.Kind.LAST_LOOK

    @property
    def is_active(self) -> bool:
        return self.state in (Job.State.QUEUED, Job.State.RUNNING)

    @property
    def is_failed(self) -> bool:
        return self.state == Job.State.FAILED

    @property
    def is_done(self) -> bool:
        return self.state == Job.State.DONE

    @property
    def can_cancel(self) -> bool:
        return self.is_active and not self.cancel_requested

    @property
    def can_retry(self) -> bool:
        if self.is_superseded or self.state not in (Job.State.FAILED, Job.State.CANCELLED):
            return False
        needed = RETRIED_IN.get(Job.Kind(self.kind))
        return needed is None or self.round_state in needed

    @property
    def tone(self) -> str:
        """Return the badge's colour: live, good, bad, warn, or none."""
        if self.is_active and self.silent_seconds:
            return "warn"
        return {"running": "live", "done": "good", "failed": "bad", "cancelled": "warn"}.get(self.state, "")


def job_rows(study: Study) -> list[JobRow]:
    """Return every job of the study in the order they were made: one query."""
    attempt = Attempt.objects.filter(job=OuterRef("pk"), number=OuterRef("attempt_number"))
    jobs = (
        Job.objects.filter(study=study)
        .select_related("round__sampled_policy", "policy", "run__round", "demonstration_run")
        .only(*OF_JOB, *OF_SUBJECT)
        .annotate(lease_until=Subquery(attempt.values("lease_until")[:1]))
        .order_by("pk")
    )
    now = timezone.now()
    newest = {job.round_id: job for job in jobs if job.kind == Job.Kind.RUN}
    return [
        job_row(
            job,
            lease_until=job.lease_until,
            now=now,
            is_superseded=job.kind == Job.Kind.RUN and is_replaced(job, newest=newest[job.round_id]),
        )
        for job in jobs
    ]


def is_replaced(job: Job, *, newest: Job) -> bool:
    """Return whether another run of the round was started after this one had ended."""
    return job != newest and job.finished_at is not None and newest.created_at >= job.finished_at


def job_row(job: Job, *, lease_until: datetime | None, now: datetime, is_superseded: bool = False) -> JobRow:
    of_round = job.round or (job.run.round if job.run else None)
    return JobRow(
        pk=job.pk,
        kind=job.kind,
        title=job_title(job),
        state=job.state,
        state_label="Cancelling" if job.is_active and job.cancel_requested else job.get_state_display(),
        done=job.done,
        total=job.total,
        unit=job.unit,
        message=with_minus(job.message),
        cause=job.cause,
        attempt_number=job.attempt_number,
        cancel_requested=job.cancel_requested,
        cancel_consequence=CONSEQUENCES[Job.Kind(job.kind)],
        seconds_taken=seconds_taken(job, now=now),
        seconds_left=seconds_left(job, now=now),
        silent_seconds=silent_seconds(job, lease_until=lease_until, now=now),
        round_id=job.round_id,
        policy_id=job.policy_id,
        run_id=job.run_id,
        demonstration_run_id=job.demonstration_run_id,
        round_number=of_round.number if of_round else None,
        round_state=of_round.state if of_round else "",
        is_superseded=is_superseded,
    )


def job_title(job: Job) -> str:
    match job.kind:
        case Job.Kind.SAMPLING if job.round:
            return f"Sampling round {job.round.number} from {in_a_sentence(job.round.sampled_policy)}"
        case Job.Kind.HELDOUT if job.policy:
            return f"Held-out responses of {in_a_sentence(job.policy)}"
        case Job.Kind.RUN if job.run:
            return f"Training in round {job.run.round.number}, run {job.run.number}"
        case Job.Kind.SFT if job.demonstration_run:
            return f"Learning from {job.demonstration_run.examples:,} demonstrations"
        case Job.Kind.LAST_LOOK if job.policy:
            return f"Last look of {in_a_sentence(job.policy)} at its training pairs"
        case Job.Kind.SCORING if job.policy:
            return f"Scoring {in_a_sentence(job.policy)}"
        case Job.Kind.REFERENCE if job.round:
            return f"Reference log-probs of round {job.round.number}"
        case Job.Kind.MERGE if job.policy:
            return f"Merging {in_a_sentence(job.policy)} into its base"
    return job.get_kind_display()


def in_a_sentence(policy: Policy) -> str:
    """Return how a policy is called in the middle of a sentence."""
    return f"the {policy.label}" if policy.number == 0 else policy.label


def seconds_taken(job: Job, *, now: datetime) -> float | None:
    """Return how long the job has run so far, or ran; None before it starts."""
    if job.started_at is None:
        return None
    end = now if job.is_active else job.finished_at
    return (end - job.started_at).total_seconds() if end else None


def seconds_left(job: Job, *, now: datetime) -> float | None:
    taken = seconds_taken(job, now=now)
    if job.state != Job.State.RUNNING or not job.done or taken is None or taken < SECONDS_BEFORE_ESTIMATE:
        return None
    return max(0.0, taken * (job.total - job.done) / job.done)


def silent_seconds(job: Job, *, lease_until: datetime | None, now: datetime) -> float | None:
    """Return for how long a running job's worker has not been heard from; None while it is in time."""
    if job.state != Job.State.RUNNING or lease_until is None:
        return None
    silence = (now - (lease_until - LEASE)).total_seconds()
    return silence if silence > HEARTBEATS_MISSED * HEARTBEAT_SECONDS else None
