"""kill -9 at the worst moment: the work finishes after the restart, once."""

from __future__ import annotations

import os
import signal
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from pytest_django import Settings

from annotate.models import Pair, Response, Study
from tests.support.faulty_engine import faulty_engine, slow
from tests.support.workers import children_of, wait_until, worker
from tests.training.factories import attempt_of, make_study
from tests.training.loop import started_run
from training.models import Attempt, Job, Policy, Round, Run, SampledResponse
from training.services.jobs import request_cancel
from training.services.processes import start_time
from training.services.reconcile import reconcile
from training.services.rounds import open_round
from training.services.run_directories import absolute

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.fixture
def run(tiny_model: Path) -> Run:
    return started_run(tiny_model, epochs=20)


def first_step(run: Run) -> bool:
    return (absolute(run.directory) / "metrics.jsonl").exists()


def horse_of(job: Job) -> int:
    """The pid of the work-horse that the job's attempt runs in."""
    attempt = attempt_of(job)
    assert attempt.pid
    return attempt.pid


def state_of(job: Job) -> str:
    job.refresh_from_db()
    return job.state


def has_ended(pid: int) -> bool:
    return start_time(pid) is None


def has_responses(number: int) -> bool:
    return SampledResponse.objects.count() >= number


def test_killed_work_horse_takes_its_trainer_along_and_the_run_finishes_once(
    run: Run, tmp_path: Path
) -> None:
    job = run.job
    with worker("training", log=tmp_path / "worker.log"):
        wait_until(lambda: first_step(run), seconds=180, what="the first step")
        horse = horse_of(job)
        (trainer,) = children_of(horse)
        os.kill(horse, signal.SIGKILL)
        wait_until(partial(has_ended, trainer), seconds=5, what="the end of the trainer")
        assert state_of(job) == Job.State.RUNNING
        reconcile()
        assert [attempt.state for attempt in job.attempts.all()] == [Attempt.State.LOST, Attempt.State.QUEUED]
        wait_until(lambda: state_of(job) == Job.State.DONE, seconds=240, what="the end of the run")
    assert Policy.objects.filter(number=1).count() == 1
    assert Round.objects.get().state == Round.State.TRAINED
    assert [attempt.state for attempt in job.attempts.all()] == [Attempt.State.LOST, Attempt.State.DONE]


def test_killed_worker_takes_everything_along_and_a_new_one_finishes(run: Run, tmp_path: Path) -> None:
    job = run.job
    with worker("training", log=tmp_path / "worker.log") as killed:
        wait_until(lambda: first_step(run), seconds=180, what="the first step")
        horse = horse_of(job)
        (trainer,) = children_of(horse)
        killed.kill()
        for pid in (horse, trainer):
            wait_until(partial(has_ended, pid), seconds=5, what="the end of the orphans")
    reconcile()
    assert state_of(job) == Job.State.QUEUED
    with worker("training", log=tmp_path / "worker.log"):
        wait_until(lambda: state_of(job) == Job.State.DONE, seconds=240, what="the end of the run")
    assert Policy.objects.filter(number=1).count() == 1


def test_cancelled_job_of_a_killed_work_horse_ends_cancelled(run: Run, tmp_path: Path) -> None:
    with worker("training", log=tmp_path / "worker.log") as killed:
        wait_until(lambda: first_step(run), seconds=180, what="the first step")
        killed.kill()
        killed.wait()
        wait_until(partial(has_ended, horse_of(run.job)), seconds=5, what="the end of the horse")
    request_cancel(job=run.job)
    reconcile()
    assert state_of(run.job) == Job.State.CANCELLED
    assert not Policy.objects.filter(number=1).exists()


@pytest.fixture
def sampled_study(settings: Settings) -> Study:
    settings.SAMPLING_CONCURRENCY = 4
    return make_study(train=12, heldout=0, base_model="/models/base")


def test_work_horse_killed_while_sampling_leaves_each_slot_filled_once(
    sampled_study: Study, settings: Settings, tmp_path: Path
) -> None:
    with faulty_engine(base_model="/models/base") as engine:
        engine.behaviour = slow(0.3)
        settings.VLLM_URLS = [engine.url]
        opened = open_round(study=sampled_study)
        job = opened.jobs.get()
        with worker("sampling", log=tmp_path / "worker.log"):
            for stored in (5, 13):
                wait_until(partial(has_responses, stored), seconds=90, what="sampling")
                os.kill(horse_of(job), signal.SIGKILL)
                wait_until(partial(has_ended, horse_of(job)), seconds=5, what="the end of the horse")
                reconcile()
            wait_until(lambda: state_of(job) == Job.State.DONE, seconds=120, what="the end of sampling")
    filled = Counter(SampledResponse.objects.values_list("prompt_id", "slot"))
    assert set(filled.values()) == {1}
    assert len(filled) == 24
    assert Response.objects.count() == 24
    assert Pair.objects.count() == 12
    assert job.attempt_number == 3


def test_queue_that_forgets_everything_delays_a_job_but_does_not_lose_it(
    sampled_study: Study, settings: Settings, tmp_path: Path, valkey: object
) -> None:
    with faulty_engine(base_model="/models/base") as engine:
        settings.VLLM_URLS = [engine.url]
        job = open_round(study=sampled_study).jobs.get()
        valkey.flushall()  # type: ignore[attr-defined]
        Attempt.objects.update(enqueued_at=None, created_at="2020-01-01T00:00:00Z")
        reconcile()
        with worker("sampling", log=tmp_path / "worker.log"):
            wait_until(lambda: state_of(job) == Job.State.DONE, seconds=90, what="the end of sampling")
    assert Pair.objects.count() == 12
