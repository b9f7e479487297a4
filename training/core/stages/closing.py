"""The end of a dpo run: adapter/ or model/ with trained.json, a last look at every example, result.json."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from math import isfinite
from statistics import fmean
from typing import Any

from training.core.diagnostics import Course, Look, figures_of, warnings_of
from training.core.errors import TrainingError
from training.core.loss_course import StepLoss, loss_figures, preference_scale, step_loss
from training.core.model.loading import ADAPTER_WEIGHTS, parent_sha256
from training.core.progress import say
from training.core.run.adapter import make_probe, write_adapter
from training.core.run.card import preference_card
from training.core.run.checkpoints import Position
from training.core.run.directory import RunDirectory
from training.core.run.files import (
    read_json_lines,
    sha256_of_file,
    sha256_of_model,
    write_json,
    write_json_lines,
)
from training.core.run.model_folder import write_model
from training.core.run.records import (
    Evaluation,
    RunResult,
    read_margins,
    read_metrics,
    read_result,
)
from training.core.stages.evaluation import best, restore_best
from training.core.stages.job import DpoRun, all_looks
from training.core.versions import library_versions


def finish(
    job: DpoRun, *, position: Position, evaluations: Sequence[Evaluation], last_look: bool = True
) -> None:
    """Write what a finished run leaves: adapter/ or model/ and trained.json, and after the last look margins,
    contradictions and result.json.

    Without `last_look` it ends with trained.json: the weights are all that sampling from them needs.
    """
    kept, lost = _keep_best(job, position=position, evaluations=evaluations)
    job.ranks.on_main(
        lambda: _write_trained(job, position=position, evaluations=evaluations, kept=kept, lost=lost)
    )
    if last_look:
        looks = all_looks(job, job.data, label="last look", where="after the last step")
        job.ranks.on_main(lambda: _write_last_look(job, looks=looks, lost=lost))


def _keep_best(
    job: DpoRun, *, position: Position, evaluations: Sequence[Evaluation]
) -> tuple[int, tuple[str, ...]]:
    """Restore the weights of the best evaluation where that is asked for; returns their step, and
    warnings.
    """
    if not (job.config.evaluation.keep_best and evaluations):
        return position.step, ()
    return restore_best(job, wanted=best(evaluations).step, reached=position.step)


def _write_trained(
    job: DpoRun,
    *,
    position: Position,
    evaluations: Sequence[Evaluation],
    kept: int,
    lost: tuple[str, ...],
) -> None:
    """Write the weights' folder, and trained.json last, unless both are there already."""
    if job.run.is_trained:
        return
    result = replace(
        _result(job, position=position),
        warnings=lost + warnings_of(_course(job, looks=())),
        heldout=_shown(evaluations, step=kept),
        stopped_early=position.step < job.plan.steps,
        kept_step=kept,
    )
    result = _write_weights(job, result=result)
    write_json(job.run.trained, value=asdict(result))


def _write_last_look(job: DpoRun, *, looks: Sequence[Look], lost: tuple[str, ...]) -> None:
    """Write what the last look tells, and result.json last."""
    _check_numbers([look.loss for look in looks], job=job)
    figures = figures_of(looks)
    write_margins(job, looks=looks)
    write_contradictions(job.run)
    result = replace(
        read_result(job.run.trained),
        warnings=lost + warnings_of(_course(job, looks=looks)),
        train_accuracy=figures.rewards_accuracies,
        train_margin=figures.rewards_margins,
        train_contradicted=figures.rewards_contradicted,
        log_ratio_per_token_chosen=figures.log_ratio_per_token_chosen,
        log_ratio_per_token_rejected=figures.log_ratio_per_token_rejected,
        absolute_log_ratio_per_token=figures.absolute_log_ratio_per_token,
        length_margin_correlation=figures.length_margin_correlation,
        # A trained.json of an earlier version has no means over steps.
        **loss_figures(_losses(job)),
    )
    for warning in result.warnings:
        say(f"warning: {warning}")
    write_json(job.run.result, value=asdict(result))
    say(f"finished: {_summary(result, examples=len(looks))}")


def write_margins(job: DpoRun, *, looks: Sequence[Look]) -> None:
    """Complete margins.jsonl: the margin after a look is the one at the example's next look.

    The next look of epoch 0, before the first step, is the one after the last step.
    """
    final = {job.data.items[look.index].id: look.margin for look in looks}
    before = {
        (values["id"], values["epoch"]): values["margin_before"]
        for values in read_json_lines(job.run.margins)
    }

    def completed() -> Iterator[dict[str, Any]]:
        for record in read_margins(job.run.margins):
            following = None if record.epoch == 0 else before.get((record.id, record.epoch + 1))
            after = final[record.id] if following is None else following
            yield replace(record, margin_after=after).as_json()

    write_json_lines(job.run.margins, values=completed())


def write_contradictions(run: RunDirectory) -> None:
    """Write contradictions.jsonl: every example's margin before and after, the most contradicted ones first.

    It has no log-ratios and is sorted, so that a reader who wants some of the first reads little.
    """
    starts = [record for record in read_margins(run.margins) if record.epoch == 0]
    ranked = sorted(starts, key=lambda record: record.margin_after or 0.0)
    write_json_lines(
        run.contradictions,
        values=(
            {"id": record.id, "margin_before": record.margin_before, "margin_after": record.margin_after}
            for record in ranked
        ),
    )


def _course(job: DpoRun, *, looks: Sequence[Look]) -> Course:
    """What the warnings look at; `looks` are those after the last step, none before there are any."""
    start = [record for record in read_margins(job.run.margins) if record.epoch == 0]
    chosen = [fmean(record.h_chosen) for record in start if record.h_chosen]
    rejected = [fmean(record.h_rejected) for record in start if record.h_rejected]
    reference = job.data.references is not None
    return Course(
        margin_before=fmean(record.margin_before for record in start),
        chosen_before=(fmean(chosen) if chosen else 0.0) if reference else None,
        rejected_before=(fmean(rejected) if rejected else 0.0) if reference else None,
        after=figures_of(looks) if looks else None,
        pairs=len(looks),
        losses=_losses(job),
        scale=preference_scale(job.config.loss.as_json()),
        first_loss_expected=job.data.loss_at_start(job.plan.batch(0)) if job.fresh else None,
        truncated_share=job.truncated_share,
    )


def _result(job: DpoRun, *, position: Position) -> RunResult:
    steps = list(read_metrics(job.run.metrics))
    seen = sum(len(job.plan.batch(step)) for step in range(position.step))
    starts = [record.margin_before for record in read_margins(job.run.margins) if record.epoch == 0]
    return RunResult(
        stage=job.config.stage,
        examples=job.receipt.examples,
        used=job.receipt.used,
        steps=position.step,
        planned_steps=job.plan.steps,
        seconds=position.seconds,
        base_sha256=job.base.sha256,
        examples_sha256=position.examples_sha256,
        heldout_sha256=position.heldout_sha256,
        config_sha256=position.config_sha256,
        versions=library_versions(),
        parent_sha256=parent_sha256(job.config),
        train_margin_before=fmean(starts),
        truncated_share=job.truncated_share,
        clipped_share=fmean(metrics.grad_clipped for metrics in steps),
        **loss_figures(_losses(job)),
        pairs_per_second=seen / position.seconds,
    )


def _losses(job: DpoRun) -> tuple[StepLoss, ...]:
    """The loss of every step so far with the size of its batch."""
    steps = read_metrics(job.run.metrics)
    return tuple(step_loss(step, usual=len(job.plan.batch(step.step - 1))) for step in steps)


def _write_weights(job: DpoRun, *, result: RunResult) -> RunResult:
    """Write adapter/ or model/; returns the result with its hash."""
    card = preference_card(job.config, result=result, lately=_last_epoch(job))
    if job.config.trainable == "full":
        write_model(job.run, model=job.policy, base=job.base, card=card)
        return replace(result, model_sha256=sha256_of_model(job.run.model))
    probe = make_probe(job.policy, examples=job.data.sequences())
    _check_numbers(probe.policy_logps, job=job)
    write_adapter(job.run, policy=job.policy, base_model=job.config.base_model, probe=probe, card=card)
    return replace(result, adapter_sha256=sha256_of_file(job.run.adapter / ADAPTER_WEIGHTS))


def _check_numbers(values: Sequence[float], *, job: DpoRun) -> None:
    """Raise TrainingError when the trained weights give log-probs or losses that are no finite numbers."""
    if not all(map(isfinite, values)):
        raise TrainingError(
            "after the last step the weights give log-probs that are infinite or no numbers; lower "
            f"learning_rate ({job.config.optimizer.learning_rate:g}), then start a new run"
        )


def _last_epoch(job: DpoRun) -> dict[str, float]:
    """Accuracy and margin over the steps of the last epoch, each batch as it was before its step."""
    steps = list(read_metrics(job.run.metrics))[-job.plan.steps_per_epoch :]
    figures = {
        "accuracy": [step.rewards_accuracies for step in steps],
        "margin": [step.rewards_margins for step in steps],
    }
    known = {name: [value for value in values if value is not None] for name, values in figures.items()}
    return {name: fmean(values) for name, values in known.items() if values}


def _shown(evaluations: Sequence[Evaluation], *, step: int) -> dict[str, Any] | None:
    """The evaluation of the weights that were kept."""
    made = next((evaluation for evaluation in evaluations if evaluation.step == step), None)
    return made.as_json() if made else None


def _summary(result: RunResult, *, examples: int) -> str:
    accuracy, margin = result.train_accuracy, result.train_margin
    parts = [
        "" if accuracy is None else f"accuracy {accuracy:.2f}",
        "" if margin is None else f"margin {margin:+.3f}",
    ]
    return ", ".join(part for part in parts if part) + f" on {examples} examples"
