"""Stage sft: learn demonstrations, completion tokens only, and write the result as a base folder, model/.

The loss of a step is −Σ log π(y_t | x, y_<t) / (completion tokens of the step's batch), in nats: a mean over
tokens, so that a long demonstration counts for more than a short one, as in TRL's SFTTrainer with a
completion mask.
"""

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from training.core.data.encode import EncodedCompletion, encode_demonstrations
from training.core.distributed import ALONE, Ranks
from training.core.errors import TrainingError
from training.core.lanes import open_lanes
from training.core.loss_course import DEMONSTRATIONS, loss_alarms, loss_figures, step_loss
from training.core.model.loading import (
    BaseModel,
    encoding_rules,
    find_base,
    load_base,
    load_tokenizer,
)
from training.core.model.merging import merged
from training.core.process import raise_if_stopped
from training.core.progress import say
from training.core.run.card import demonstration_card
from training.core.run.checkpoints import Position
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.files import append_lines, sha256_of_model, write_json
from training.core.run.model_folder import write_model
from training.core.run.records import (
    DemonstrationMetrics,
    RunResult,
    read_demonstration_evaluations,
    read_demonstration_metrics,
)
from training.core.run.weights import trainable_policy, trained_weights
from training.core.stages.demonstrations import SftRun, batch_backward
from training.core.stages.heldout import split_by_prompt
from training.core.stages.loop import check_finite, restore, set_rate, take_steps, update
from training.core.stages.preparation import check_heldout, plan_of
from training.core.stages.sft_evaluation import Evaluations
from training.core.versions import library_versions


@dataclass(frozen=True)
class Ending:
    """Whose weights the result has: those after `kept` steps, how they did on held-out data."""

    kept: int
    warnings: tuple[str, ...]
    heldout: dict[str, Any] | None


def run_sft(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> None:
    """Train the run, or go on where it was interrupted, and write model/ and result.json.

    Raises TrainingError with a cause that a person can act on, RunStoppedError when asked to stop.
    """
    job = prepare_sft(run, config=config, ranks=ranks)
    position = restore(job)
    made = ranks.on_main(lambda: tuple(read_demonstration_evaluations(run.metrics)))
    evaluations = Evaluations(job, made=made)
    position = take_steps(
        job,
        position=position,
        take=lambda step: _shown(train_step(job, step=step)),
        is_over=evaluations.is_over,
    )
    kept, lost = evaluations.keep_best(step=position.step)
    looked = evaluations.of(kept)
    ending = Ending(kept=kept, warnings=lost, heldout=looked.as_json() if looked else None)
    ranks.on_main(lambda: _finish(job, position=position, ending=ending))


def prepare_sft(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> SftRun:
    """Everything that the steps need, with receipt.json written.

    Raises TrainingError when no example can be used.
    """
    base = find_base(config)
    items, heldout, receipt = _examples(run, config=config, base=base, ranks=ranks)
    raise_if_stopped(where="before the model was loaded")
    policy = trainable_policy(config, model=load_base(config, base=base))
    weights = trained_weights(policy)
    settings = config.optimizer
    return SftRun(
        run=run,
        config=config,
        base=base,
        policy=policy,
        weights=weights,
        optimizer=torch.optim.AdamW(
            weights.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
        ),
        items=items,
        heldout=heldout,
        plan=plan_of(config, pairs=len(items)),
        receipt=receipt,
        ranks=ranks,
        lanes=open_lanes(policy),
    )


def train_step(job: SftRun, *, step: int) -> DemonstrationMetrics:
    """One optimiser step (from 0) over its demonstrations; appends and returns the batch's figures.

    Raises TrainingError when the loss or its gradient is not finite, RunStoppedError when asked to stop.
    """
    began = time.monotonic()
    rate = set_rate(job, step=step)
    learnt = batch_backward(job, indices=job.plan.batch(step), step=step)
    tokens = sum(one.completion_tokens for one in learnt)
    loss = sum(one.nll for one in learnt) / tokens
    check_finite(loss, name="loss", step=step, job=job)
    norm = update(job, step=step)
    metrics = DemonstrationMetrics(
        step=step + 1,
        epoch=(step + 1) / job.plan.steps_per_epoch,
        loss=loss,
        mean_token_accuracy=sum(one.hits for one in learnt) / tokens,
        grad_norm=norm,
        learning_rate=rate,
        tokens_per_second=sum(one.tokens for one in learnt) / (time.monotonic() - began),
        time=time.time(),
        examples=len(learnt),
    )
    job.ranks.on_main(lambda: append_lines(job.run.metrics, values=[asdict(metrics)]))
    return metrics


def _examples(
    run: RunDirectory, *, config: RunConfig, base: BaseModel, ranks: Ranks
) -> tuple[tuple[EncodedCompletion, ...], tuple[EncodedCompletion, ...], Receipt]:
    """Demonstrations to learn, held-out ones, and the receipt, which is on disk then."""
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    encoded = encode_demonstrations(run.examples, tokenizer=tokenizer, rules=rules)
    training = encoded.items
    heldout: tuple[EncodedCompletion, ...] = ()
    if run.heldout.exists():
        given = encode_demonstrations(run.heldout, tokenizer=tokenizer, rules=rules)
        heldout = given.items
        if not heldout:
            raise TrainingError(f"heldout.jsonl: {given.none_usable()}")
    elif config.evaluation.share > 0:
        training, heldout = split_by_prompt(training, share=config.evaluation.share, seed=config.seed)
    receipt = encoded.receipt(steps=plan_of(config, pairs=len(training)).steps)
    receipt = replace(receipt, heldout=len(heldout))
    ranks.on_main(lambda: write_json(run.receipt, value=asdict(receipt)))
    if not encoded.items:
        raise encoded.none_usable()
    check_heldout(heldout, config=config)
    held = f", {len(heldout)} held out" if heldout else ""
    say(f"{receipt.used} of {receipt.examples} demonstrations can be used{held}; {receipt.steps} steps")
    return training, heldout, receipt


def _finish(job: SftRun, *, position: Position, ending: Ending) -> None:
    """Merge the adapter, write model/, and result.json last."""
    result = _result(job, position=position)
    result = replace(
        result,
        kept_step=ending.kept,
        warnings=ending.warnings + result.warnings,
        heldout=ending.heldout,
    )
    model = merged(job.policy)
    write_model(job.run, model=model, base=job.base, card=demonstration_card(job.config, result=result))
    result = replace(result, model_sha256=sha256_of_model(job.run.model))
    for warning in result.warnings:
        say(f"warning: {warning}")
    write_json(job.run.result, value=asdict(result))
    say(f"finished: loss {result.loss_start:.4f} → {result.loss_end:.4f}; the new base is {job.run.model}")


def _result(job: SftRun, *, position: Position) -> RunResult:
    steps = list(read_demonstration_metrics(job.run.metrics))
    if not steps:
        raise TrainingError(f"{job.run.metrics} has no steps; remove checkpoints/ to train again")
    losses = [step_loss(step, usual=len(job.plan.batch(step.step - 1))) for step in steps]
    seen = sum(len(job.plan.batch(step)) for step in range(position.step))
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
        warnings=loss_alarms(losses, scale=DEMONSTRATIONS),
        **loss_figures(losses),
        pairs_per_second=seen / position.seconds,
        stopped_early=position.step < job.plan.steps,
    )


def _shown(metrics: DemonstrationMetrics) -> str:
    return f"loss {metrics.loss:.4f}  accuracy {metrics.mean_token_accuracy:.2f}"
