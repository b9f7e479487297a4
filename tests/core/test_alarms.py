"""What the gate says of runs that really went wrong: a learning rate of 1e-1, and one that moves nothing."""

import json
from pathlib import Path

import pytest

from tests.core.support import config, example, write_run
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory, ScoreExample, write_run_directory
from training.core.run.records import RunResult
from training.core.stages.dpo import run_dpo
from training.core.stages.score import run_score
from training.evaluation.gate import Evidence, Gate, Thresholds, gate_of
from training.evaluation.win_rate import win_rate

pytestmark = pytest.mark.slow
EXAMPLES = [example(number) for number in range(6)]


def result_of(run: RunDirectory) -> RunResult:
    return RunResult.from_json(json.loads(run.result.read_text()))


def gate_after(path: Path, *, base: Path, learning_rate: float) -> Gate:
    """Train, score what the policy now says of its own training responses, and judge it."""
    run = write_run(
        path / "run", base=base, examples=EXAMPLES, optimizer={"learning_rate": learning_rate, "epochs": 3}
    )
    run_dpo(run, config=read_config(run.config))
    scored = path / "scores"
    texts = [ScoreExample(id=item.id, prompt=item.prompt, completions=(item.chosen,)) for item in EXAMPLES]
    settings = config(base, stage="score", parent_adapter=str(run.adapter))
    write_run_directory(scored, config=settings, examples=texts)
    run_score(RunDirectory(scored), config=settings)
    trained, said = result_of(run), result_of(RunDirectory(scored))
    evidence = Evidence(
        over_reference=win_rate([], half_width=0.1),
        kl_per_token=said.log_ratio_per_token,
        chosen_log_ratio=trained.log_ratio_per_token_chosen,
        loss_first=trained.loss_first,
        loss_last=trained.loss_last,
        warnings=trained.warnings,
    )
    return gate_of(evidence, thresholds=Thresholds())


def test_a_learning_rate_of_a_tenth_fails_as_diverged_or_displaced(tmp_path: Path, base_folder: Path) -> None:
    failures = " ".join(gate_after(tmp_path, base=base_folder, learning_rate=1e-1).failures)
    assert "diverged" in failures or "displacement" in failures, failures


def test_a_run_that_moves_nothing_fails_as_such(tmp_path: Path, base_folder: Path) -> None:
    gate = gate_after(tmp_path, base=base_folder, learning_rate=1e-9)
    assert ["changes nothing" in failure for failure in gate.failures] == [True]


def test_a_usual_run_fails_nothing(tmp_path: Path, base_folder: Path) -> None:
    assert gate_after(tmp_path, base=base_folder, learning_rate=1e-4).failures == ()
