"""Two people, or two processes, at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from django.db import connections

from annotate.models import Verdict
from tests.training.factories import attempt_of, make_job, make_round, make_study
from tests.training.loop import fill_round, label_round
from training.models import Attempt, Job, Round, Run
from training.services.jobs import (
    AttemptSuperseded,
    Claim,
    claim_attempt,
    finish_attempt,
    replace_lost_attempt,
)
from training.services.rounds import RoundRefused, open_round, start_training

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

Result = TypeVar("Result")
AT_ONCE = 6


def at_once(work: Callable[[], Result], *, times: int = AT_ONCE) -> list[Result | Exception]:
    """Run `work` in several threads that start together, and return what each returned or raised."""
    barrier = threading.Barrier(times)

    def perform() -> Result | Exception:
        barrier.wait()
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - a result like any other here
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as threads:
        futures = [threads.submit(perform) for _ in range(times)]
        return [future.result() for future in futures]


def test_rounds_opened_at_once_are_one_round() -> None:
    study = make_study(train=2)
    results = at_once(lambda: open_round(study=study))
    opened = [result for result in results if isinstance(result, Round)]
    assert len(opened) == Round.objects.count() == 1
    assert {type(result) for result in results if not isinstance(result, Round)} == {RoundRefused}
    assert Job.objects.filter(kind=Job.Kind.SAMPLING).count() == 1


def test_trainings_started_at_once_are_one_run() -> None:
    study = make_study(train=4, minimum_labels=2)
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A] * 4)
    results = at_once(lambda: start_training(round=Round.objects.get(pk=opened.pk)))
    assert len([result for result in results if isinstance(result, Run)]) == Run.objects.count() == 1
    assert {type(result) for result in results if not isinstance(result, Run)} == {RoundRefused}
    assert Job.objects.filter(kind=Job.Kind.RUN).count() == 1


def test_runs_restarted_at_once_are_one_run() -> None:
    study = make_study(train=4, minimum_labels=2)
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A] * 4)
    Job.objects.filter(pk=start_training(round=opened).job.pk).update(state=Job.State.FAILED)
    results = at_once(lambda: start_training(round=Round.objects.get(pk=opened.pk)))
    assert len([result for result in results if isinstance(result, Run)]) == 1
    assert Run.objects.count() == 2


def test_attempt_claimed_at_once_has_one_owner() -> None:
    study = make_study()
    attempt = attempt_of(make_job(study, round=make_round(study)))
    results = at_once(lambda: claim_attempt(attempt.pk))
    assert len([result for result in results if isinstance(result, Claim)]) == 1
    assert {type(result) for result in results if not isinstance(result, Claim)} == {AttemptSuperseded}


@pytest.mark.parametrize("repetition", range(4))
def test_attempt_that_finishes_while_it_is_declared_dead_has_one_outcome(repetition: int) -> None:
    study = make_study(train=1, heldout=0)
    job = make_job(study, round=make_round(study))
    claim = claim_attempt(attempt_of(job).pk)
    attempt = attempt_of(job)
    moves: Iterator[Callable[[], object]] = iter(
        [lambda: finish_attempt(claim), lambda: replace_lost_attempt(attempt)]
    )
    results = at_once(lambda: next(moves)(), times=2)
    assert sum(isinstance(result, AttemptSuperseded) for result in results) == 1
    job.refresh_from_db()
    expected = {
        Job.State.DONE: [Attempt.State.DONE],
        Job.State.QUEUED: [Attempt.State.LOST, Attempt.State.QUEUED],
    }
    assert [attempt.state for attempt in job.attempts.all()] == expected[Job.State(job.state)]
