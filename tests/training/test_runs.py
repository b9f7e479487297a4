"""A training run from its job to its policy, with the real trainer on a tiny model."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.db import connections
from pytest_django import Settings

from annotate.models import Study
from tests.training.factories import attempt_of
from tests.training.loop import started_run
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file
from training.models import Job, Policy, Round, Run
from training.services import publishing
from training.services.jobs import (
    AttemptSuperseded,
    Claim,
    JobCancelled,
    JobFailed,
    claim_attempt,
    replace_lost_attempt,
    request_cancel,
    retry_job,
)
from training.services.publishing import publish_policy, run_and_publish
from training.services.run_directories import absolute
from training.services.runs import lock_name

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


@pytest.fixture
def run(tiny_model: Path) -> Run:
    return started_run(tiny_model)


@pytest.fixture
def long_run(tiny_model: Path) -> Run:
    return started_run(tiny_model, epochs=100)


@pytest.fixture
def trained(run: Run) -> Run:
    """A run whose trainer has finished, with nothing published."""
    from training.services.runs import execute_run, training_progress

    directory = absolute(run.directory)
    execute_run(claim_of(run), directory=directory, progress=training_progress, until_trained=True)
    return run


def claim_of(run: Run) -> Claim:
    return claim_attempt(attempt_of(run.job).pk)


def children() -> set[int]:
    return {int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def while_training(run: Run, *, act: Callable[[], None]) -> threading.Thread:
    """Start a thread that waits for the run's first step and then acts."""

    def wait_and_act() -> None:
        metrics = absolute(run.directory) / "metrics.jsonl"
        deadline = time.monotonic() + 60
        while not metrics.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        act()
        connections.close_all()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def trainers() -> Iterator[int]:
    """Child processes of this one that are trainers."""
    for pid in children():
        if b"training.core" in Path(f"/proc/{pid}/cmdline").read_bytes():
            yield pid


def test_finished_run_becomes_a_policy_that_is_sampled_next(run: Run) -> None:
    run_and_publish(claim_of(run))
    policy = Policy.objects.get(study=run.round.study, number=1)
    run.refresh_from_db()
    run.job.refresh_from_db()
    assert run.policy == policy
    assert run.round.__class__.objects.get(pk=run.round_id).state == Round.State.TRAINED
    assert (run.job.state, run.job.done, run.job.total) == (Job.State.DONE, 2, 2)
    assert run.result is not None
    assert policy.served_name == f"{run.round.study.slug}-r1-{run.result['adapter_sha256'][:12]}"
    assert policy.parent == run.round.sampled_policy
    assert damaged_file(absolute(policy.adapter_path)) is None
    assert policy.adapter_path == f"policies/{policy.served_name}"
    assert Job.objects.get(kind=Job.Kind.HELDOUT, policy=policy).state == Job.State.QUEUED
    assert run.round.study.recipe.__class__.objects.get().base_sha256 == run.result["base_sha256"]
    notice = Study.objects.get().queue_notice
    assert notice == "Round 1 is trained; new pairs come when a lead opens round 2."
    log = (absolute(run.directory) / "train.log").read_text()
    assert "step 2/2" in log


def test_two_processes_train_when_the_launcher_is_torchrun(run: Run, settings: Settings) -> None:
    settings.TRAIN_LAUNCHER = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"
    run_and_publish(claim_of(run))
    run.refresh_from_db()
    assert run.policy is not None
    assert run.result is not None
    assert run.result["steps"] == 2


def test_failure_of_the_trainer_is_told_in_its_own_words(run: Run) -> None:
    config = absolute(run.directory) / "config.json"
    values = json.loads(config.read_text())
    values["base_model"] = "/no/such/model"
    config.write_text(json.dumps(values))
    with pytest.raises(JobFailed, match="/no/such/model"):
        run_and_publish(claim_of(run))
    assert not Policy.objects.filter(number=1).exists()


def test_trainer_killed_from_outside_names_memory_and_the_remedy(long_run: Run) -> None:
    killing = while_training(long_run, act=lambda: os.kill(next(trainers()), signal.SIGKILL))
    with pytest.raises(
        JobFailed,
        match="probably out of memory: reduce pairs per step or the maximum length, then train again",
    ):
        run_and_publish(claim_of(long_run))
    killing.join()


def test_cancelled_run_stops_its_trainer_and_goes_on_when_retried(long_run: Run) -> None:
    cancelling = while_training(long_run, act=lambda: request_cancel(job=long_run.job))
    with pytest.raises(JobCancelled):
        run_and_publish(claim_of(long_run))
    cancelling.join()
    assert not list(trainers())
    assert list((absolute(long_run.directory) / "checkpoints").glob("step-*"))
    Job.objects.filter(pk=long_run.job.pk).update(state=Job.State.CANCELLED)
    retry_job(job=Job.objects.get(pk=long_run.job.pk))


def test_superseded_attempt_stops_its_trainer(long_run: Run) -> None:
    claim = claim_of(long_run)

    def supersede() -> None:
        replace_lost_attempt(attempt_of(long_run.job))

    superseding = while_training(long_run, act=supersede)
    with pytest.raises(AttemptSuperseded):
        run_and_publish(claim)
    superseding.join()
    assert not list(trainers())


def test_run_waits_for_the_accelerator_and_can_be_cancelled_meanwhile(run: Run, studio_home: Path) -> None:
    path = studio_home / "run" / lock_name()
    path.parent.mkdir(exist_ok=True)

    def cancel_once_it_waits() -> None:
        deadline = time.monotonic() + 20
        while "Waiting for another training" not in Job.objects.get(pk=run.job.pk).message:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        request_cancel(job=run.job)
        connections.close_all()

    with path.open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        cancelling = threading.Thread(target=cancel_once_it_waits)
        claim = claim_of(run)
        cancelling.start()
        with pytest.raises(JobCancelled):
            run_and_publish(claim)
        cancelling.join()
    assert not (absolute(run.directory) / "receipt.json").exists()


def test_lock_of_the_accelerator_is_held_by_the_trainer_itself(long_run: Run, studio_home: Path) -> None:
    seen: list[bool] = []

    def try_to_take_it() -> None:
        with (studio_home / "run" / lock_name()).open("w") as other:
            try:
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                seen.append(True)
            except BlockingIOError:
                seen.append(False)
        held = {os.path.realpath(fd) for fd in Path(f"/proc/{next(trainers())}/fd").iterdir()}
        seen.append(str(studio_home / "run" / lock_name()) in held)
        request_cancel(job=long_run.job)

    watching = while_training(long_run, act=try_to_take_it)
    with pytest.raises(JobCancelled):
        run_and_publish(claim_of(long_run))
    watching.join()
    assert seen == [False, True]


def test_interruption_while_publishing_leaves_one_policy_after_the_retry(
    trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = Claim(trained.job.pk, attempt_of(trained.job).pk, 1)
    with monkeypatch.context() as patched:
        patched.setattr(publishing, "create_heldout_job", lambda **_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            publish_policy(claim, run=trained)
    assert Policy.objects.filter(number=1).count() == 0
    assert Job.objects.get(pk=trained.job.pk).state == Job.State.RUNNING
    assert len(list((absolute("policies")).iterdir())) == 1
    publish_policy(claim, run=trained)
    with pytest.raises(AttemptSuperseded):
        publish_policy(claim, run=trained)
    assert Policy.objects.filter(number=1).count() == 1
    assert len(list((absolute("policies")).iterdir())) == 1


def test_half_copied_adapter_is_copied_again(trained: Run) -> None:
    claim = Claim(trained.job.pk, attempt_of(trained.job).pk, 1)
    result = json.loads((absolute(trained.directory) / "trained.json").read_text())
    name = publishing.served_name(trained, adapter_sha256=result["adapter_sha256"])
    partial = absolute(f"policies/{name}.tmp")
    partial.mkdir(parents=True)
    (partial / "adapter_model.safetensors").write_bytes(b"half")
    policy = publish_policy(claim, run=trained)
    assert damaged_file(absolute(policy.adapter_path)) is None
    assert not partial.exists()


def test_damaged_adapter_is_not_published(trained: Run) -> None:
    weights = absolute(trained.directory) / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    claim = Claim(trained.job.pk, attempt_of(trained.job).pk, 1)
    with pytest.raises(JobFailed, match="adapter is damaged"):
        publish_policy(claim, run=trained)
    assert not Policy.objects.filter(number=1).exists()
    assert not RunDirectory(absolute(trained.directory)).is_trained


def test_page_is_told_what_the_trainer_says_it_is_doing(long_run: Run) -> None:
    seen: list[str] = []

    def look() -> None:
        deadline = time.monotonic() + 30
        while not (message := Job.objects.get(pk=long_run.job.pk).message) and time.monotonic() < deadline:
            time.sleep(0.1)
        seen.append(message)
        request_cancel(job=long_run.job)

    watching = while_training(long_run, act=look)
    with pytest.raises(JobCancelled):
        run_and_publish(claim_of(long_run))
    watching.join()
    assert re.match(r"(step|reference) \d+/\d+", seen[0])
