"""The last look at a run's examples: after its policy is there, politely, and once more when it failed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.training.factories import attempt_of
from tests.training.loop import started_run
from training.core.run.directory import RunDirectory
from training.jobs import perform_attempt
from training.models import Job, Run
from training.services import last_look
from training.services.jobs import create_job, retry_job
from training.services.run_directories import absolute
from training.services.runs import Progress, said_progress

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.fixture
def published(tiny_model: Path) -> Run:
    """A run whose policy is there, and whose examples nobody has looked at since."""
    run = started_run(tiny_model)
    perform_attempt(attempt_of(run.job).pk)
    run.refresh_from_db()
    return run


def look_of(run: Run) -> Job:
    return Job.objects.get(kind=Job.Kind.LAST_LOOK, policy=run.policy)


def test_a_policy_is_there_before_its_examples_are_looked_at(published: Run) -> None:
    directory = RunDirectory(absolute(published.directory))
    assert published.policy is not None
    assert published.result is not None
    assert published.result["train_margin"] is None
    assert not directory.result.exists()
    look = look_of(published)
    assert (look.state, look.total) == (Job.State.QUEUED, 4)

    perform_attempt(attempt_of(look).pk)

    look.refresh_from_db()
    published.refresh_from_db()
    assert (look.state, look.cause, look.done) == (Job.State.DONE, "", 4)
    assert published.result["train_margin"] is not None
    assert published.result["adapter_sha256"] == published.policy.adapter_sha256
    assert len(directory.contradictions.read_text().splitlines()) == 4


def test_the_look_makes_way_for_a_run_that_waits(published: Run) -> None:
    waiting = create_job(study=published.round.study, kind=Job.Kind.RUN)
    look = look_of(published)
    perform_attempt(attempt_of(look).pk)
    look.refresh_from_db()
    assert (look.state, look.message) == (Job.State.QUEUED, "Waiting for a job that people wait for")

    Job.objects.filter(pk=waiting.pk).update(state=Job.State.CANCELLED)
    perform_attempt(look.attempts.get(number=look.attempt_number).pk)
    look.refresh_from_db()
    assert look.state == Job.State.DONE


def test_a_lost_run_directory_is_named_and_the_look_can_be_retried(published: Run) -> None:
    directory = absolute(published.directory)
    kept = directory.with_name("kept")
    shutil.move(directory, kept)
    look = look_of(published)
    perform_attempt(attempt_of(look).pk)
    look.refresh_from_db()
    assert look.state == Job.State.FAILED
    assert "The run directory is gone or damaged; the policy itself is not." in look.cause

    shutil.move(kept, directory)
    retry_job(job=look)
    perform_attempt(look.attempts.get(number=2).pk)
    look.refresh_from_db()
    assert look.state == Job.State.DONE


def test_the_look_leaves_the_processor_to_sampling(published: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def progress(run: RunDirectory) -> Progress:
        for pid in Path("/proc").glob("[0-9]*"):
            try:
                words = (pid / "cmdline").read_bytes().split(b"\0")
                nice = int((pid / "stat").read_text().rpartition(")")[2].split()[16])
            except OSError:
                continue
            if b"training.core" in words and str(run.path).encode() in words:
                seen.append(nice)
        return said_progress(run, doing=last_look.DOING)

    monkeypatch.setattr(last_look, "_progress", progress)
    perform_attempt(attempt_of(look_of(published)).pk)
    assert seen
    assert min(seen) >= 10
