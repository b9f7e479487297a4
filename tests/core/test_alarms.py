"""What gate and trainer say of runs that went wrong: a learning rate of 1e-1, one that moves nothing, a judge
who only wants the longer answer."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.core.support import config, example, write_run
from training.core.alarms import step_alarms
from training.core.loss_course import preference_scale
from training.core.run.config import read_config
from training.core.run.directory import DpoExample, RunDirectory, ScoreExample, write_run_directory
from training.core.run.records import RunResult, read_metrics
from training.core.stages.dpo import run_dpo
from training.core.stages.score import run_score
from training.evaluation.gate import Evidence, Gate, Thresholds, gate_of
from training.evaluation.win_rate import win_rate

pytestmark = pytest.mark.slow
EXAMPLES = [example(number) for number in range(6)]


def result_of(run: RunDirectory) -> RunResult:
    return RunResult.from_json(json.loads(run.result.read_text()))


def kinds(sentences: tuple[str, ...]) -> set[str]:
    return {sentence.partition(":")[0] for sentence in sentences}


def said_while_training(run: RunDirectory) -> set[str]:
    """The kinds of alarms that a page shows after some step of the run."""
    steps = list(read_metrics(run.metrics))
    scale = preference_scale(read_config(run.config).loss.as_json())
    seen = (
        step_alarms(steps[0], steps[max(0, end - 10) : end], pairs_per_step=2, scale=scale)
        for end in range(1, len(steps) + 1)
    )
    return set().union(*map(kinds, seen))


def turned(item: DpoExample, *, is_turned: bool) -> DpoExample:
    return replace(item, chosen=item.rejected, rejected=item.chosen) if is_turned else item


def gate_after(path: Path, *, base: Path, examples: Sequence[DpoExample] = EXAMPLES, **changes: Any) -> Gate:
    """Train, score what the policy now says of its own training responses, and judge it."""
    run = write_run(path / "run", base=base, examples=examples, **changes)
    run_dpo(run, config=read_config(run.config))
    scored = path / "scores"
    texts = [ScoreExample(id=item.id, prompt=item.prompt, completions=(item.chosen,)) for item in examples]
    settings = config(base, stage="score", parent_adapter=str(run.adapter))
    write_run_directory(scored, config=settings, examples=texts)
    run_score(RunDirectory(scored), config=settings)
    trained, said = result_of(run), result_of(RunDirectory(scored))
    evidence = Evidence(
        over_reference=win_rate([], half_width=0.1),
        kl_per_token=said.log_ratio_per_token,
        chosen_log_ratio=trained.log_ratio_per_token_chosen,
        loss_first=trained.loss_start,
        loss_last=trained.loss_end,
        loss_steps=trained.loss_steps,
        steps=trained.steps,
        warnings=trained.warnings,
    )
    return gate_of(evidence, thresholds=Thresholds())


def test_a_learning_rate_of_a_tenth_fails_as_diverged_or_displaced(tmp_path: Path, base_folder: Path) -> None:
    gate = gate_after(tmp_path, base=base_folder, optimizer={"learning_rate": 1e-1, "epochs": 3})
    assert {"Training", "Displacement"} & {check.name for check in gate.checks if check.verdict == "fail"}
    run = RunDirectory(tmp_path / "run")
    assert kinds(result_of(run).warnings) & {"divergence", "likelihood displacement"}
    assert said_while_training(run) & {"divergence", "likelihood displacement"}


def test_a_loss_that_stays_high_is_divergence_in_the_gate_and_while_training(
    tmp_path: Path, base_folder: Path
) -> None:
    """Labels without any order cannot be learnt: with such a rate each step only adds noise."""
    examples = [turned(example(number), is_turned=number % 2 == 0) for number in range(40)]
    gate = gate_after(
        tmp_path,
        base=base_folder,
        examples=examples,
        loss={"beta": 1.0},
        optimizer={"learning_rate": 1e-1, "epochs": 1, "pairs_per_step": 4},
    )
    assert "Training" in {check.name for check in gate.checks if check.verdict == "fail"}
    run = RunDirectory(tmp_path / "run")
    assert "divergence" in kinds(result_of(run).warnings)
    assert "divergence" in said_while_training(run)


def test_a_run_that_moves_nothing_fails_as_such(tmp_path: Path, base_folder: Path) -> None:
    gate = gate_after(tmp_path, base=base_folder, optimizer={"learning_rate": 1e-9, "epochs": 3})
    assert ["changes nothing" in failure for failure in gate.failures] == [True]
    assert kinds(result_of(RunDirectory(tmp_path / "run")).warnings) == {"no change"}


def test_a_usual_run_fails_nothing_and_lists_its_examples_by_margin(
    tmp_path: Path, base_folder: Path
) -> None:
    settings = {"learning_rate": 1e-4, "epochs": 3}
    assert gate_after(tmp_path, base=base_folder, optimizer=settings).failures == ()
    run = RunDirectory(tmp_path / "run")
    ranked = [json.loads(line) for line in run.contradictions.read_text().splitlines()]
    margins = [line["margin_after"] for line in ranked]
    assert margins == sorted(margins)
    assert {line["id"] for line in ranked} == {item.id for item in EXAMPLES}
    assert sum(margin < 0 for margin in margins) / len(margins) == result_of(run).train_contradicted
    assert "no change" not in kinds(result_of(run).warnings) | said_while_training(run)


def test_a_judge_who_only_wants_the_longer_answer_is_told_by_the_margins(
    tmp_path: Path, base_folder: Path
) -> None:
    words = ["river", "because", "small", "often", "light", "never", "house", "idea", "blue", "sings"]

    def answer(length: int) -> tuple[dict[str, str], ...]:
        return ({"role": "assistant", "content": " ".join((words * 3)[:length])},)

    examples = [example(number, chosen=answer(4 + number % 12), rejected=answer(3)) for number in range(24)]
    run = write_run(tmp_path, base=base_folder, examples=examples, optimizer={"learning_rate": 1e-3})
    run_dpo(run, config=read_config(run.config))
    assert "length" in kinds(result_of(run).warnings)
    assert result_of(run).length_margin_correlation == pytest.approx(1, abs=0.3)
