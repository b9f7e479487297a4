"""The reference's log-probs are computed while people label, and training finds them in the ledger."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from annotate.models import Pair, Verdict
from tests.training.factories import attempt_of, make_study
from tests.training.loop import fill_round, label_round
from training.core.run.directory import RunDirectory
from training.jobs import perform_attempt
from training.models import Job, Round
from training.services import reference_logps
from training.services.jobs import claim_attempt
from training.services.publishing import run_and_publish
from training.services.reference_logps import LEFT_TO_TRAINING, create_reference_job, responses_of
from training.services.rounds import open_round, start_training
from training.services.run_directories import absolute
from training.services.runs import Progress, said_progress

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def filled_round(model: Path) -> Round:
    study = make_study(train=4, heldout=1, base_model=str(model), dtype="float32", minimum_labels=2, epochs=1)
    opened = open_round(study=study)
    fill_round(opened)
    return opened


def entries() -> int:
    """Return how many completions the ledgers know."""
    (ledger,) = absolute("ledgers").glob("*.sqlite")
    with closing(sqlite3.connect(ledger)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM logps").fetchone()
    return int(count)


def test_a_round_gets_one_reference_job_of_the_responses_in_its_pairs(tmp_path: Path) -> None:
    opened = filled_round(tmp_path)
    left_out = Pair.objects.filter(batch=opened.number).first()
    assert left_out is not None
    left_out.delete()

    job = create_reference_job(round=opened)

    assert job is not None
    assert (job.kind, job.total) == (Job.Kind.REFERENCE, 6)
    assert {row.prompt_id for row in responses_of(opened)}.isdisjoint({left_out.prompt_id})
    assert create_reference_job(round=opened) is None


def test_nothing_is_computed_once_training_has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = filled_round(tmp_path)
    job = create_reference_job(round=opened)
    assert job is not None
    label_round(opened, verdicts=[Verdict.A, Verdict.B])
    start_training(round=opened)
    monkeypatch.setattr(reference_logps, "execute_run", lambda *_, **__: pytest.fail("it computes"))

    perform_attempt(attempt_of(job).pk)

    job.refresh_from_db()
    assert (job.state, job.message) == (Job.State.DONE, LEFT_TO_TRAINING)


def test_progress_is_what_the_trainer_says_of_the_reference(tmp_path: Path) -> None:
    def reference(run: RunDirectory) -> Progress:
        return said_progress(run, doing="reference")

    log = tmp_path / "train.log"
    run = RunDirectory(tmp_path)
    assert reference(run).done == 0
    log.write_text('{"message": "72 completions can be used"}\n')
    assert reference(run).done == 0
    log.write_text('{"message": "reference 31/72", "doing": "reference", "done": 31, "total": 72}\n')
    assert reference(run).done == 31


@pytest.mark.slow
def test_training_finds_what_the_job_has_computed(tiny_model: Path) -> None:
    opened = filled_round(tiny_model)
    job = create_reference_job(round=opened)
    assert job is not None
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    assert (job.state, job.done, job.cause) == (Job.State.DONE, 8, "")
    known = entries()
    assert known > 0

    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.A, Verdict.B])
    run = start_training(round=opened)
    run_and_publish(claim_attempt(attempt_of(run.job).pk))

    assert entries() == known
