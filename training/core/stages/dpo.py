"""Stage dpo: train an adapter against the frozen reference, one run directory at a time."""

import time
from dataclasses import asdict, replace

import torch
from torch import nn

from training.core.data.encode import EncodedPair, encode_pairs
from training.core.errors import RunStoppedError, TrainingError
from training.core.logprobs.pairs import (
    PairLogpsFunction,
    PairTokenLogps,
    pair_logps_function,
    shared_pair_logps,
)
from training.core.model.loading import (
    BaseModel,
    encoding_rules,
    find_base,
    load_base,
    load_policy,
    load_tokenizer,
    reference_mode,
    trainable_parameters,
)
from training.core.process import raise_if_stopped
from training.core.progress import progress, say
from training.core.run import checkpoints
from training.core.run.checkpoints import Position
from training.core.run.config import RunConfig, config_warnings
from training.core.run.directory import Receipt, RunDirectory, StepMetrics
from training.core.run.files import append_lines, keep_lines, sha256_of_file, write_json
from training.core.stages.closing import finish
from training.core.stages.schedule import Plan
from training.core.stages.step import DpoRun, train_step

# How far a fresh adapter, or the reference asked twice, may be from nothing: nats per token, by dtype.
NOISE = {"float32": 1e-4, "bfloat16": 0.05}


def run_dpo(run: RunDirectory, *, config: RunConfig) -> None:
    """Train the run, or go on where it was interrupted, and write adapter/ and result.json.

    Raises TrainingError with a cause that a person can act on, RunStoppedError when asked to stop.
    """
    for warning in config_warnings(config):
        say(f"warning: {warning}")
    base = find_base(config)
    pairs, receipt = _usable_pairs(run, config=config, base=base)
    job = _prepared(run, config=config, base=base, pairs=pairs)
    position = _start_or_go_on(job)
    position = _train(job, position=position)
    finish(job, position=position, receipt=receipt)


def _usable_pairs(
    run: RunDirectory, *, config: RunConfig, base: BaseModel
) -> tuple[tuple[EncodedPair, ...], Receipt]:
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    encoded = encode_pairs(run.examples, tokenizer=tokenizer, rules=rules)
    receipt = encoded.receipt(steps=_plan(config, pairs=len(encoded.items)).steps)
    write_json(run.receipt, value=asdict(receipt))
    if not encoded.items:
        raise encoded.none_usable()
    say(f"{receipt.used} of {receipt.examples} pairs can be used; {receipt.steps} steps")
    return encoded.items, receipt


def _plan(config: RunConfig, *, pairs: int) -> Plan:
    settings = config.optimizer
    return Plan(pairs=pairs, pairs_per_step=settings.pairs_per_step, epochs=settings.epochs, seed=config.seed)


def _prepared(
    run: RunDirectory, *, config: RunConfig, base: BaseModel, pairs: tuple[EncodedPair, ...]
) -> DpoRun:
    raise_if_stopped(where="before the model was loaded")
    policy = load_policy(config, model=load_base(config, base=base), trainable=True)
    pair_logps = pair_logps_function(policy)
    if pair_logps is not shared_pair_logps:
        say("this model's attention cannot share a prompt between completions; computing it twice per pair")
    settings = config.optimizer
    return DpoRun(
        run=run,
        config=config,
        base=base,
        policy=policy,
        optimizer=torch.optim.AdamW(
            trainable_parameters(policy).values(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
        ),
        pair_logps=pair_logps,
        pairs=pairs,
        references=reference_logps(policy, pairs=pairs, pair_logps=pair_logps),
        plan=_plan(config, pairs=len(pairs)),
    )


def reference_logps(
    policy: nn.Module, *, pairs: tuple[EncodedPair, ...], pair_logps: PairLogpsFunction
) -> tuple[PairTokenLogps, ...]:
    """The reference's per-token log-probs of every pair, once per run.

    Each pair is computed in the very shape in which training computes it, so that a fresh adapter's Δ is
    exactly 0 even in bfloat16.
    """
    computed = []
    with progress("reference", total=len(pairs)) as shown, reference_mode(policy):
        for pair in pairs:
            raise_if_stopped(where="before the first step")
            computed.append(
                pair_logps(policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
            )
            shown.advance()
    return tuple(computed)


def check_step_zero(job: DpoRun) -> None:
    """Before the first step: a fresh adapter changes nothing, a continued one leaves the reference as it was.

    Raises TrainingError when the reference is not what the losses take it for.
    """
    pair, reference = job.pairs[0], job.references[0]
    with torch.no_grad():
        live = job.pair_logps(job.policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    with reference_mode(job.policy):
        again = job.pair_logps(job.policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    noise = NOISE[job.config.dtype]
    if (drift := _distance(again, reference)) > noise:
        raise TrainingError(
            f"the reference gives log-probs {drift:.3g} nats a token apart when asked twice; "
            "the base model is not deterministic and cannot be a reference"
        )
    change = _distance(live, reference)
    if job.config.parent_adapter is None and change > noise:
        raise TrainingError(
            f"a fresh adapter changes the log-probs by {change:.3g} nats a token instead of nothing; "
            "check that the base model is the reference itself, without an adapter of its own"
        )
    if job.config.parent_adapter is not None and change == 0:
        say("warning: the parent adapter changes nothing; check that it was trained on this base model")


def _distance(first: PairTokenLogps, second: PairTokenLogps) -> float:
    """The mean absolute difference of two sets of per-token log-probs, in nats."""
    difference = torch.cat([first.chosen - second.chosen, first.rejected - second.rejected])
    return float(difference.abs().mean())


def _start_or_go_on(job: DpoRun) -> Position:
    """The position of the newest whole checkpoint, restored, or the start; records of later steps are cut."""
    start = Position(
        step=0,
        seconds=0.0,
        config_sha256=sha256_of_file(job.run.config),
        examples_sha256=sha256_of_file(job.run.examples),
    )
    position = checkpoints.load_checkpoint(job.run, start=start, policy=job.policy, optimizer=job.optimizer)
    if position.step == 0:
        check_step_zero(job)
    else:
        say(f"going on after step {position.step} of {job.plan.steps}")
    for record in (job.run.metrics, job.run.margins):
        keep_lines(record, wanted=lambda values: values["step"] <= position.step)
    return position


def _train(job: DpoRun, *, position: Position) -> Position:
    """Take the steps that are left; a checkpoint every so often, at the end, and where a request stops it."""
    with progress("step", total=job.plan.steps, done=position.step) as shown:
        try:
            while position.step < job.plan.steps:
                position, metrics = _next_step(job, position=position)
                if _due(job, position=position):
                    _save(job, position=position)
                shown.advance(_figures(metrics))
        except RunStoppedError:
            if position.step > 0 and not _due(job, position=position):
                _save(job, position=position)
            raise
    return position


def _next_step(job: DpoRun, *, position: Position) -> tuple[Position, StepMetrics]:
    began = time.monotonic()
    metrics = train_step(job, step=position.step)
    append_lines(job.run.metrics, values=[metrics.as_json()])
    seconds = position.seconds + time.monotonic() - began
    return replace(position, step=position.step + 1, seconds=seconds), metrics


def _due(job: DpoRun, *, position: Position) -> bool:
    return position.step % job.config.checkpoint_every == 0 or position.step == job.plan.steps


def _save(job: DpoRun, *, position: Position) -> None:
    checkpoints.save_checkpoint(job.run, position=position, policy=job.policy, optimizer=job.optimizer)


def _figures(metrics: StepMetrics) -> str:
    return (
        f"loss {metrics.loss:.4f}  margin {metrics.rewards_margins:+.3f}  "
        f"accuracy {metrics.rewards_accuracies:.2f}"
    )
