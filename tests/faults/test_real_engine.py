"""Once around the loop on the real engine and the real trainer, with the engine killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections

from annotate.models import Pair, Split, Study
from tests.support.workers import REPOSITORY, environment, wait_until
from tests.training.factories import attempt_of, make_user
from training.core.diagnostics import FIRST_LOSS_NOISE
from training.jobs import perform_attempt
from training.models import EngineServer, Job, Policy, Round, SampledResponse, Score
from training.selectors.engine import engine_overview
from training.services.rounds import open_round, start_training
from training.services.run_directories import absolute
from training.services.studies import create_training_study

pytestmark = [
    pytest.mark.engine,
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

TRAIN, HELDOUT = 6, 2


@pytest.fixture
def study(demo_model: Path) -> Study:
    lines = (REPOSITORY / "annotate" / "demo" / "prompts.jsonl").read_bytes().splitlines()
    by_split = {
        split: [line for line in lines if json.loads(line)["split"] == split]
        for split in ("train", "heldout")
    }
    return create_training_study(
        name="Real",
        lead=make_user("lead"),
        base_model=str(demo_model),
        prompts=by_split["train"][:TRAIN] + by_split["heldout"][:HELDOUT],
        recipe={
            "max_new_tokens": 24,
            "heldout_samples": 2,
            "pairs_per_step": 2,
            "epochs": 1,
            "minimum_labels": 2,
            "learning_rate": 1e-3,
        },
    )


@pytest.fixture
def managed_engine(study: Study, tmp_path: Path) -> Iterator[None]:
    """`manage.py run_engine` on this test's database."""
    with (tmp_path / "engine.log").open("wb") as log:
        manager = subprocess.Popen(
            [sys.executable, "manage.py", "run_engine"],
            cwd=REPOSITORY,
            env={**os.environ, **environment()},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield
        manager.send_signal(signal.SIGTERM)
        assert manager.wait(timeout=20) == 0
        assert EngineServer.objects.get().state == EngineServer.State.STOPPED
    finally:
        manager.kill()
        manager.wait()


def perform(job: Job) -> Job:
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    assert job.state == Job.State.DONE, job.cause
    return job


def assert_slots_filled_once(policy: Policy, *, round: Round | None, slots: int) -> None:
    sampled = SampledResponse.objects.filter(policy=policy, round=round)
    filled = Counter(sampled.values_list("prompt_id", "slot"))
    assert set(filled.values()) == {1}
    assert len(filled) == slots


def kill_engine_after(responses: int, *, round: Round) -> threading.Thread:
    """kill -9 the server and all its processes as soon as the round has some responses."""

    def wait_and_kill() -> None:
        sampled = SampledResponse.objects.filter(round=round)
        wait_until(lambda: sampled.count() >= responses, seconds=300, what="sampling")
        pid = EngineServer.objects.get().pid
        assert pid
        os.killpg(pid, signal.SIGKILL)
        connections.close_all()

    thread = threading.Thread(target=wait_and_kill)
    thread.start()
    return thread


@pytest.mark.usefixtures("managed_engine")
def test_once_around_the_loop(study: Study) -> None:
    reference = study.policies.get()
    first = open_round(study=study)
    perform(first.jobs.get(kind=Job.Kind.SAMPLING))
    perform(Job.objects.get(kind=Job.Kind.HELDOUT, policy=reference))
    assert engine_overview().state == "ready"
    assert_slots_filled_once(reference, round=first, slots=2 * TRAIN)
    assert_slots_filled_once(reference, round=None, slots=2 * HELDOUT)
    first.refresh_from_db()
    assert Pair.objects.count() == TRAIN - first.pairs_dropped
    for sampled in SampledResponse.objects.all():
        assert len(sampled.token_ids) == len(sampled.logprobs) <= 24
        assert sampled.prompt_token_ids

    call_command("simulate_labels", study.slug, rule="longer", annotator="robot")
    run = start_training(round=first)
    assert run.receipt["simulated_labels"] == run.receipt["labels"] > 0
    heldout = {json.dumps(prompt.messages) for prompt in study.prompts.filter(split=Split.HELDOUT)}
    examples = [
        json.loads(line) for line in (absolute(run.directory) / "examples.jsonl").read_text().splitlines()
    ]
    assert not heldout & {json.dumps(example["prompt"]) for example in examples}
    perform(run.job)
    policy = Policy.objects.get(study=study, number=1)
    run.refresh_from_db()
    assert run.result is not None
    assert abs(run.result["loss_first"] - 0.6931) < FIRST_LOSS_NOISE

    perform(Job.objects.get(kind=Job.Kind.HELDOUT, policy=policy))
    policy.refresh_from_db()
    assert "agree with training" in policy.probe_note
    assert_slots_filled_once(policy, round=None, slots=2 * HELDOUT)
    perform(Job.objects.get(kind=Job.Kind.SCORING, policy=policy))
    scores = Score.objects.filter(policy=policy)
    assert scores.filter(sampled__policy=policy).count() == 2 * HELDOUT
    assert scores.filter(sampled__policy=reference).count() == 2 * HELDOUT
    assert any(abs(score.policy_logp - score.reference_logp) > 1e-3 for score in scores)

    second = open_round(study=study, override="Whatever these few pairs have taught.")
    killing = kill_engine_after(2, round=second)
    perform(second.jobs.get(kind=Job.Kind.SAMPLING))
    killing.join()
    assert_slots_filled_once(policy, round=second, slots=2 * TRAIN)
    assert Round.objects.get(number=1).state == Round.State.CLOSED
