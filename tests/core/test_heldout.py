"""Held-out examples of stage dpo: the split, evaluations, early stop, the best weights through kills."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.core.kills import Killed, kill_at_call
from tests.core.support import config, example, load_job, random_pair, write_run
from training.core.diagnostics import figures_of
from training.core.errors import TrainingError
from training.core.run import checkpoints
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import write_json_lines
from training.core.run.records import Evaluation, RunResult, read_evaluations, read_margins
from training.core.stages import evaluation
from training.core.stages.closing import finish
from training.core.stages.dpo import run_dpo
from training.core.stages.evaluation import best, is_due, patience_is_over
from training.core.stages.heldout import split_by_prompt
from training.core.stages.schedule import Plan
from training.core.stages.step import train_step


def train(run: RunDirectory) -> RunResult:
    run_dpo(run, config=read_config(run.config))
    return RunResult.from_json(json.loads(run.result.read_text()))


def heldout_run(
    path: Path, *, base: Path, checkpoint_every: int = 3, epochs: int = 6, **evaluation: Any
) -> RunDirectory:
    """Twelve prompts of which about a third is held out."""
    return write_run(
        path,
        base=base,
        examples=[example(number) for number in range(12)],
        evaluation={"share": 0.3, **evaluation},
        optimizer={"epochs": epochs, "pairs_per_step": 4},
        checkpoint_every=checkpoint_every,
    )


def test_held_out_prompts_are_evaluated_and_not_trained_on(tmp_path: Path, base_folder: Path) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder)
    result = train(run)
    receipt = json.loads(run.receipt.read_text())
    trained = {record.id for record in read_margins(run.margins)}
    assert 0 < receipt["heldout"] < 12
    assert len(trained) == 12 - receipt["heldout"]
    evaluations = list(read_evaluations(run.metrics))
    assert [evaluation.epoch for evaluation in evaluations] == [1, 2, 3, 4, 5, 6]
    assert {evaluation.examples for evaluation in evaluations} == {receipt["heldout"]}
    line = next(json.loads(line) for line in run.metrics.read_text().splitlines() if "eval_loss" in line)
    assert {"eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "step", "epoch"} <= line.keys()
    assert result.heldout is not None
    assert result.heldout["step"] == result.kept_step == result.steps
    assert result.stopped_early is False


def test_heldout_file_is_evaluated_on_as_it_is(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(number) for number in range(4)],
        evaluation={"every": 1},
        optimizer={"epochs": 1},
    )
    write_json_lines(run.heldout, values=[example(number).as_json() for number in range(4, 7)])
    train(run)
    evaluations = list(read_evaluations(run.metrics))
    assert [(evaluation.step, evaluation.examples) for evaluation in evaluations] == [(1, 3), (2, 3)]


def tell_accuracies(monkeypatch: pytest.MonkeyPatch, *accuracies: float) -> None:
    """Give each evaluation of other weights the next accuracy; the same weights have the same again."""
    real, coming, told = figures_of, iter(accuracies), dict[int, float]()

    def figures(looks: Any) -> Any:
        key = round(1e6 * sum(look.loss for look in looks))
        if key not in told:
            told[key] = next(coming)
        return replace(real(looks), rewards_accuracies=told[key])

    monkeypatch.setattr("training.core.stages.evaluation.figures_of", figures)


def train_until(run: RunDirectory, *, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Train until the process dies, before the step of that number (from 1)."""
    steps = itertools.count(1)

    def dying(*arguments: Any, **options: Any) -> Any:
        if next(steps) == step:
            raise KeyboardInterrupt
        return train_step(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("training.core.stages.dpo.train_step", dying)
        with pytest.raises(KeyboardInterrupt):
            train(run)


def same_weights(run: RunDirectory, *, best: int) -> bool:
    """Whether adapter/ has the weights that were kept of the evaluation after `best` steps."""
    stored = load_file(run.checkpoints / f"best-{best:08d}" / "weights.safetensors")
    adapter = load_file(run.adapter / "adapter_model.safetensors")
    sums = [sorted(float(weight.sum()) for weight in weights.values()) for weights in (stored, adapter)]
    return sums[0] == sums[1]


@pytest.mark.parametrize("stopped_at", [None, 4, 9])
def test_early_stop_and_best_weights_survive_an_interruption(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int | None
) -> None:
    """The accuracy falls after epoch two: two evaluations later it stops, with that epoch's weights."""
    tell_accuracies(monkeypatch, 0.5, 0.75, 0.5, 0.5, 0.5, 0.5)
    run = heldout_run(tmp_path / "run", base=base_folder, patience=2, keep_best=True)
    if stopped_at is not None:
        train_until(run, monkeypatch=monkeypatch, step=stopped_at)
    result = train(run)
    evaluations = list(read_evaluations(run.metrics))
    assert [line.rewards_accuracies for line in evaluations] == [0.5, 0.75, 0.5, 0.5]
    assert result.stopped_early is True
    assert result.steps == evaluations[-1].step
    assert result.kept_step == evaluations[1].step
    assert result.heldout is not None
    assert result.heldout["eval_rewards/accuracies"] == 0.75
    assert same_weights(run, best=result.kept_step)
    card = (run.adapter / "README.md").read_text()
    assert f"stopped after {result.steps} of {result.planned_steps} steps" in card
    assert f"weights of step {result.kept_step} |" in card
    assert f"12 of 12 examples, {result.heldout['eval_examples']} of them held out" in card


def test_best_weights_outlive_a_better_evaluation_that_did_not_survive(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies after the second evaluation, the best; made again on the way, it is no longer that."""
    run = heldout_run(tmp_path / "run", base=base_folder, every=1, keep_best=True, checkpoint_every=1)
    saves = itertools.count(1)
    real = checkpoints.save_checkpoint

    def dying(*arguments: Any, **options: Any) -> None:
        if next(saves) == 2:
            raise KeyboardInterrupt
        real(*arguments, **options)

    with monkeypatch.context() as patched:
        tell_accuracies(patched, 0.5, 0.75)
        patched.setattr(checkpoints, "save_checkpoint", dying)
        with pytest.raises(KeyboardInterrupt):
            train(run)
    assert [path.name for path in sorted(run.checkpoints.glob("best-*"))] == [
        "best-00000001",
        "best-00000002",
    ]
    tell_accuracies(monkeypatch, *[0.25] * 50)
    result = train(run)
    assert (result.kept_step, result.heldout and result.heldout["eval_rewards/accuracies"]) == (1, 0.5)
    assert same_weights(run, best=1)
    assert [path.name for path in run.checkpoints.glob("best-*")] == ["best-00000001"]


@pytest.mark.slow  # trains the same run many times over
@pytest.mark.parametrize(
    ("module", "name", "after"),
    [
        pytest.param(checkpoints, "save_best", False, id="before the best weights"),
        pytest.param(checkpoints, "save_best", True, id="between best weights and line"),
        pytest.param(evaluation, "append_lines", True, id="between line and checkpoint"),
        pytest.param(checkpoints, "_forget_old_bests", False, id="before old best weights are removed"),
        pytest.param(checkpoints, "save_checkpoint", True, id="after the checkpoint"),
    ],
)
def test_a_run_killed_around_its_evaluations_keeps_the_same_best_weights(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, after: bool
) -> None:
    runs = [
        heldout_run(tmp_path / place, base=base_folder, epochs=3, every=1, keep_best=True, checkpoint_every=2)
        for place in ("whole", "killed")
    ]
    monkeypatch.setattr("training.core.stages.dpo.best", lowest_loss)
    monkeypatch.setattr("training.core.stages.closing.best", lowest_loss)
    kept = train(runs[0]).kept_step
    with monkeypatch.context() as patched:
        kill_at_call(patched, module, name, call=3, after=after)
        with pytest.raises(Killed):
            train(runs[1])
    assert train(runs[1]).kept_step == kept
    first, second = ((run.adapter / "adapter_model.safetensors").read_bytes() for run in runs)
    assert first == second
    assert all(same_weights(run, best=kept or 0) for run in runs)


def lowest_loss(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Better is what falls at each step here, so that each evaluation has weights to keep."""
    return min(evaluations, key=lambda one: one.loss)


def test_best_weights_are_kept_for_every_checkpoint_that_a_run_may_go_on_from(
    tmp_path: Path, base_folder: Path
) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder)
    job = load_job(run)
    left = []
    for step in range(1, 8):
        if step in (1, 3):
            checkpoints.save_best(run, step=step, weights=job.weights)
        position = replace(checkpoints.start_of(run), step=step)
        checkpoints.save_checkpoint(run, position=position, weights=job.weights, optimizer=job.optimizer)
        left.append([int(path.name[-1]) for path in sorted(run.checkpoints.glob("best-*"))])
    assert left == [[1], [1], [1, 3], [3], [3], [3], [3]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_held_out_figures_that_are_no_numbers_end_the_run_by_name(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    def figures(looks: Any) -> Any:
        return replace(figures_of(looks), rewards_rejected=value)

    monkeypatch.setattr("training.core.stages.evaluation.figures_of", figures)
    run = heldout_run(tmp_path / "run", base=base_folder, every=1)
    with pytest.raises(TrainingError, match=f"the held-out rewards_rejected of step 1 is {value}; lower"):
        train(run)


def test_best_weights_that_are_damaged_are_said_to_be(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder, keep_best=True)

    def damage_and_finish(*arguments: Any, **options: Any) -> None:
        (weights,) = run.checkpoints.glob("best-*/weights.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1])
        finish(*arguments, **options)

    monkeypatch.setattr("training.core.stages.dpo.finish", damage_and_finish)
    monkeypatch.setattr("training.core.stages.dpo.best", lambda evaluations: evaluations[0])
    monkeypatch.setattr("training.core.stages.closing.best", lambda evaluations: evaluations[0])
    result = train(run)
    assert result.kept_step == result.steps
    assert any("are gone or damaged" in warning for warning in result.warnings)


def test_patience_and_due_evaluations(base_folder: Path) -> None:
    settings = config(base_folder, evaluation={"share": 0.5, "every": 4, "patience": 1}).evaluation
    plan = Plan(pairs=10, pairs_per_step=1, epochs=1, seed=0)
    assert [step for step in range(11) if is_due(step, plan=plan, settings=settings)] == [4, 8, 10]
    assert not patience_is_over([], settings=settings, best=best)


def test_a_prompt_is_on_one_side_and_stays_there() -> None:
    pairs = [random_pair(prompt=4, chosen=3, rejected=2, seed=number // 2) for number in range(200)]
    training, heldout = split_by_prompt(pairs, share=0.3, seed=1)
    assert len(training) + len(heldout) == 200
    assert 0.15 < len(heldout) / 200 < 0.45
    assert not {pair.prompt for pair in training} & {pair.prompt for pair in heldout}
    more = split_by_prompt(pairs, share=0.5, seed=1)[1]
    assert {pair.prompt for pair in heldout} <= {pair.prompt for pair in more}
    assert split_by_prompt(pairs, share=0.3, seed=2)[1] != heldout


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_of_two_prompts_one_is_always_held_out(share: float) -> None:
    pairs = [random_pair(prompt=4, chosen=3, rejected=2, seed=number // 2) for number in range(4)]
    for seed in range(20):
        training, heldout = split_by_prompt(pairs, share=share, seed=seed)
        assert (len(training), len(heldout)) == (2, 2)
        assert training[0].prompt != heldout[0].prompt


def test_a_prompt_that_is_the_only_one_is_not_held_out() -> None:
    pairs = [random_pair(prompt=4, chosen=3, rejected=2, seed=1)] * 3
    assert split_by_prompt(pairs, share=0.5, seed=1) == (tuple(pairs), ())


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_a_share_of_one_prompt_is_refused(tmp_path: Path, base_folder: Path, share: float) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0)], evaluation={"share": share})
    with pytest.raises(TrainingError, match=r"nothing is held out .* all examples have one prompt"):
        train(run)


def test_the_best_of_equals_is_the_first(tmp_path: Path, base_folder: Path) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder)
    train(run)
    evaluations = list(read_evaluations(run.metrics))
    highest = max(evaluation.rewards_accuracies or 0 for evaluation in evaluations)
    assert best(evaluations) == next(line for line in evaluations if line.rewards_accuracies == highest)
