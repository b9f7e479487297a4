"""The state machine of background work: who may write, and what becomes of those who may not any more."""

from collections.abc import Callable

import pytest
import redis
from django.db import transaction
from django.utils import timezone
from pytest_django import Settings

from tests.training.factories import attempt_of, make_job, make_round, make_study
from training.models import Attempt, Job, Round
from training.services.carrier import QUEUES, queue_named, rq_job_id
from training.services.jobs import (
    LEASE,
    AttemptSuperseded,
    JobCancelled,
    JobRefused,
    cancel_attempt,
    claim_attempt,
    create_job,
    fail_attempt,
    finish_attempt,
    heartbeat,
    replace_lost_attempt,
    request_cancel,
    retry_job,
)
from training.services.processes import this_process

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def job() -> Job:
    study = make_study()
    return make_job(study, round=make_round(study))


def carried() -> list[str]:
    return [job_id for name in QUEUES for job_id in queue_named(name).get_job_ids()]


def test_attempt_is_carried_only_after_the_transaction_commits() -> None:
    study = make_study()
    with transaction.atomic():
        job = create_job(study=study, kind=Job.Kind.HELDOUT, policy=study.policies.get())
        assert carried() == []
    attempt = attempt_of(job)
    assert carried() == [rq_job_id(attempt.pk)]
    assert attempt.enqueued_at is not None


def test_rolled_back_job_is_never_carried() -> None:
    study = make_study()
    with transaction.atomic():
        create_job(study=study, kind=Job.Kind.HELDOUT, policy=study.policies.get())
        transaction.set_rollback(True)
    assert carried() == []
    assert not Job.objects.exists()


def test_what_rq_carries_is_json_with_the_attempt_alone(job: Job, valkey: redis.Redis) -> None:
    attempt = attempt_of(job)
    carried_job = queue_named("sampling").fetch_job(rq_job_id(attempt.pk))
    assert carried_job is not None
    assert carried_job.kwargs == {"attempt": attempt.pk}
    assert carried_job.func_name == "training.jobs.run_attempt"
    assert carried_job.retries_left is None
    assert carried_job.timeout == -1


def test_sampling_of_a_round_overtakes_held_out_sampling(job: Job) -> None:
    study = make_study()
    heldout = create_job(study=study, kind=Job.Kind.HELDOUT, policy=study.policies.get())
    sampling = make_job(study, round=make_round(study))
    order = queue_named("sampling").get_job_ids()
    assert order.index(rq_job_id(attempt_of(sampling).pk)) < order.index(rq_job_id(attempt_of(heldout).pk))


def test_unreachable_queue_leaves_the_job_queued_for_reconcile(settings: Settings) -> None:
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    study = make_study()
    attempt = attempt_of(make_job(study, round=make_round(study)))
    assert attempt.state == Attempt.State.QUEUED
    assert attempt.enqueued_at is None


def test_claim_writes_who_works_and_until_when(job: Job) -> None:
    before = timezone.now()
    claim_attempt(attempt_of(job).pk)
    attempt = attempt_of(job)
    identity = this_process()
    assert (attempt.host, attempt.pid, attempt.pid_started) == (identity.host, identity.pid, identity.started)
    assert attempt.pid_started.isdigit()
    assert attempt.lease_until is not None
    assert before + LEASE <= attempt.lease_until <= timezone.now() + LEASE
    assert (job.state, attempt.state) == (Job.State.RUNNING, Attempt.State.RUNNING)


def test_second_claim_of_an_attempt_is_refused(job: Job) -> None:
    attempt = attempt_of(job)
    claim_attempt(attempt.pk)
    with pytest.raises(AttemptSuperseded):
        claim_attempt(attempt.pk)


def test_claim_of_an_attempt_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AttemptSuperseded):
        claim_attempt(987654)


def test_heartbeat_writes_progress_and_renews_the_lease(job: Job) -> None:
    claim = claim_attempt(attempt_of(job).pk)
    Attempt.objects.update(lease_until=timezone.now())
    heartbeat(claim, done=3, total=9, message="x" * 400)
    attempt = attempt_of(job)
    assert (job.done, job.total, len(job.message)) == (3, 9, 300)
    assert attempt.lease_until is not None
    assert attempt.lease_until > timezone.now() + LEASE / 2


def test_superseded_attempt_can_write_nothing(job: Job) -> None:
    old = claim_attempt(attempt_of(job).pk)
    replace_lost_attempt(attempt_of(job))
    new = claim_attempt(attempt_of(job).pk)
    writes: list[Callable[[], None]] = [
        lambda: heartbeat(old, done=7),
        lambda: finish_attempt(old),
        lambda: fail_attempt(old, cause="x"),
        lambda: cancel_attempt(old),
    ]
    for write in writes:
        with pytest.raises(AttemptSuperseded):
            write()
    job.refresh_from_db()
    assert (job.state, job.done, job.cause) == (Job.State.RUNNING, 0, "")
    finish_attempt(new)
    job.refresh_from_db()
    assert job.state == Job.State.DONE


def test_cancelling_a_queued_job_ends_it_at_once(job: Job) -> None:
    attempt = attempt_of(job)
    request_cancel(job=job)
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert attempt_of(job).state == Attempt.State.CANCELLED
    with pytest.raises(AttemptSuperseded):
        claim_attempt(attempt.pk)


def test_cancelling_a_running_job_stops_its_next_write(job: Job) -> None:
    claim = claim_attempt(attempt_of(job).pk)
    request_cancel(job=job)
    with pytest.raises(JobCancelled):
        heartbeat(claim, done=1)
    cancel_attempt(claim)
    job.refresh_from_db()
    assert (job.state, job.done) == (Job.State.CANCELLED, 0)


def test_cancelling_a_finished_job_says_so(job: Job) -> None:
    finish_attempt(claim_attempt(attempt_of(job).pk))
    with pytest.raises(JobRefused, match="already done"):
        request_cancel(job=job)


def test_failed_job_keeps_its_cause_until_it_is_retried(job: Job) -> None:
    fail_attempt(claim_attempt(attempt_of(job).pk), cause="The disk is full; make room.")
    job.refresh_from_db()
    assert (job.state, job.cause) == (Job.State.FAILED, "The disk is full; make room.")
    retry_job(job=job)
    job.refresh_from_db()
    assert (job.state, job.cause, job.attempt_number) == (Job.State.QUEUED, "", 2)
    assert job.attempts.get(number=1).cause == "The disk is full; make room."
    assert rq_job_id(attempt_of(job).pk) in carried()


def test_retry_of_a_running_job_is_refused(job: Job) -> None:
    claim_attempt(attempt_of(job).pk)
    with pytest.raises(JobRefused, match="running"):
        retry_job(job=job)


def test_two_retries_make_one_attempt(job: Job) -> None:
    fail_attempt(claim_attempt(attempt_of(job).pk), cause="x")
    stale = Job.objects.get(pk=job.pk)
    retry_job(job=job)
    with pytest.raises(JobRefused):
        retry_job(job=stale)
    assert job.attempts.count() == 2


def test_sampling_is_not_retried_once_its_round_trains(job: Job) -> None:
    request_cancel(job=job)
    Round.objects.update(state=Round.State.TRAINING)
    job = Job.objects.get(pk=job.pk)
    with pytest.raises(JobRefused, match="no longer collects"):
        retry_job(job=job)


def test_queue_notice_follows_the_round(job: Job) -> None:
    claim = claim_attempt(attempt_of(job).pk)
    fail_attempt(claim, cause="x")
    job.study.refresh_from_db()
    assert "stopped before its end" in job.study.queue_notice
    retry_job(job=Job.objects.get(pk=job.pk))
    job.study.refresh_from_db()
    assert "is being sampled" in job.study.queue_notice
    finish_attempt(claim_attempt(attempt_of(job).pk))
    job.study.refresh_from_db()
    assert "All pairs of round 1 have been sampled" in job.study.queue_notice
