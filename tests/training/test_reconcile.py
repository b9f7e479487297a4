"""What died, got lost or was left behind is put right."""

import fcntl
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import redis
from django.utils import timezone
from pytest_django import Settings

from tests.training.factories import attempt_of, make_job, make_round, make_study
from training.models import Attempt, Job
from training.services.carrier import queue_named, rq_job_id
from training.services.jobs import MOST_LOST_IN_A_ROW, claim_attempt, request_cancel
from training.services.processes import ProcessIdentity, start_time, this_process
from training.services.reconcile import reconcile

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def job() -> Job:
    study = make_study()
    return make_job(study, round=make_round(study))


@pytest.fixture
def dead() -> ProcessIdentity:
    """A process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = ProcessIdentity(host=this_process().host, pid=child.pid, started=start_time(child.pid) or "")
    child.kill()
    child.wait()
    return identity


def long_ago() -> None:
    Attempt.objects.update(enqueued_at=timezone.now() - timedelta(minutes=1))


def test_attempt_that_the_queue_lost_is_carried_again(job: Job, valkey: redis.Redis) -> None:
    long_ago()
    valkey.flushall()
    done = reconcile()
    assert done is not None
    assert done.requeued == 1
    assert queue_named("sampling").get_job_ids() == [rq_job_id(attempt_of(job).pk)]


def test_attempt_that_the_queue_holds_is_left_alone(job: Job) -> None:
    long_ago()
    done = reconcile()
    assert done is not None
    assert done.requeued == 0
    assert len(queue_named("sampling").get_job_ids()) == 1


def test_attempt_on_its_way_from_queue_to_claim_is_left_alone(job: Job, valkey: redis.Redis) -> None:
    valkey.flushall()
    done = reconcile()
    assert done is not None
    assert done.requeued == 0


def test_running_attempt_whose_process_lives_is_left_alone(job: Job) -> None:
    claim_attempt(attempt_of(job).pk)
    Attempt.objects.update(lease_until=timezone.now() - timedelta(hours=1))
    reconcile()
    assert attempt_of(job).state == Attempt.State.RUNNING


def test_dead_process_gets_its_job_a_new_attempt(job: Job, dead: ProcessIdentity) -> None:
    claim_attempt(attempt_of(job).pk, process=dead)
    done = reconcile()
    assert done is not None
    assert done.replaced == 1
    assert [attempt.state for attempt in job.attempts.all()] == [Attempt.State.LOST, Attempt.State.QUEUED]
    job.refresh_from_db()
    assert (job.state, job.attempt_number) == (Job.State.QUEUED, 2)
    assert rq_job_id(attempt_of(job).pk) in queue_named("sampling").get_job_ids()


def test_pid_that_came_back_with_another_start_time_is_another_process(job: Job) -> None:
    me = this_process()
    claim_attempt(attempt_of(job).pk, process=ProcessIdentity(host=me.host, pid=me.pid, started="1"))
    reconcile()
    job.refresh_from_db()
    assert job.attempt_number == 2


def test_zombie_counts_as_dead(job: Job) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    started = start_time(child.pid)
    assert started is not None
    os.kill(child.pid, 9)
    deadline = time.monotonic() + 5
    while start_time(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert start_time(child.pid) is None
    assert Path(f"/proc/{child.pid}").exists()
    child.wait()


@pytest.mark.parametrize(("lease_seconds", "attempts"), [(-5, 2), (20, 1)])
def test_process_of_another_host_is_judged_by_its_lease(job: Job, lease_seconds: int, attempts: int) -> None:
    claim_attempt(attempt_of(job).pk, process=ProcessIdentity(host="elsewhere", pid=1, started="1"))
    Attempt.objects.update(lease_until=timezone.now() + timedelta(seconds=lease_seconds))
    reconcile()
    assert job.attempts.count() == attempts


def test_cancelled_job_of_a_dead_process_ends_cancelled(job: Job, dead: ProcessIdentity) -> None:
    claim_attempt(attempt_of(job).pk, process=dead)
    request_cancel(job=job)
    reconcile()
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert job.attempts.count() == 1


def test_job_that_kills_its_process_again_and_again_fails_with_a_cause(
    job: Job, dead: ProcessIdentity
) -> None:
    for _ in range(MOST_LOST_IN_A_ROW):
        claim_attempt(attempt_of(job).pk, process=dead)
        reconcile()
    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert f"{MOST_LOST_IN_A_ROW} times in a row" in job.cause
    assert job.attempts.count() == MOST_LOST_IN_A_ROW


def test_only_old_leftovers_are_swept(job: Job, studio_home: Path) -> None:
    old, fresh = studio_home / "runs" / "study" / "old.tmp", studio_home / "policies" / "fresh.tmp"
    kept = studio_home / "runs" / "study" / "config.json"
    for path in (old, fresh):
        path.mkdir(parents=True)
        (path / "part").write_text("x")
    kept.write_text("{}")
    hour_ago = time.time() - 2 * 3600
    for path in (old, old / "part", kept):
        os.utime(path, (hour_ago, hour_ago))
    done = reconcile()
    assert done is not None
    assert done.leftovers_removed == 1
    assert not old.exists()
    assert fresh.exists()
    assert kept.exists()


def test_folder_with_a_fresh_file_in_it_is_at_work(studio_home: Path) -> None:
    folder = studio_home / "runs" / "copy.tmp"
    folder.mkdir(parents=True)
    (folder / "part").write_text("x")
    hours_ago = time.time() - 2 * 3600
    os.utime(folder, (hours_ago, hours_ago))
    reconcile()
    assert folder.exists()


def test_second_reconcile_does_nothing_while_one_is_at_work(studio_home: Path) -> None:
    lock = studio_home / "run" / "reconcile.lock"
    lock.parent.mkdir()
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert reconcile() is None
    assert reconcile() is not None


def test_reconcile_goes_on_without_the_queue(job: Job, dead: ProcessIdentity, settings: Settings) -> None:
    claim_attempt(attempt_of(job).pk, process=dead)
    settings.REDIS_URL = "unix:///nowhere/valkey.sock"
    done = reconcile()
    assert done is not None
    assert (done.replaced, done.requeued) == (1, 0)
