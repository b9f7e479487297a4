"""Stage sft: learn demonstrations, completion tokens only, and write the result as a base folder, model/.

The loss of a step is −Σ log π(y_t | x, y_<t) / (completion tokens of the step's batch), in nats: a mean over
tokens, so that a long demonstration counts for more than a short one, as in TRL's SFTTrainer with a
completion mask.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import nn

from training.core.data.encode import EncodedCompletion, encode_demonstrations
from training.core.distributed import ALONE, Ranks
from training.core.errors import TrainingError
from training.core.logprobs.pairs import completions_token_logps, passes
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
from training.core.run.records import DemonstrationMetrics, RunResult, read_demonstration_metrics
from training.core.run.weights import TrainedWeights, trainable_policy, trained_weights
from training.core.stages.loop import check_finite, restore, set_rate, take_steps, update
from training.core.stages.preparation import plan_of
from training.core.stages.schedule import Plan
from training.core.versions import library_versions


@dataclass(frozen=True)
class SftRun:
    """All that a step needs."""

    run: RunDirectory
    config: RunConfig
    base: BaseModel
    policy: nn.Module
    weights: TrainedWeights
    optimizer: torch.optim.Optimizer
    items: tuple[EncodedCompletion, ...]
    plan: Plan
    receipt: Receipt
    ranks: Ranks


@dataclass(frozen=True)
class Learnt:
    """A demonstration before the step's update: its summed NLL in nats, and how many tokens it has.

    `hits` of its completion's tokens were the likeliest ones.
    """

    nll: float
    hits: int
    completion_tokens: int
    tokens: int


def run_sft(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> None:
    """Train the run, or go on where it was interrupted, and write model/ and result.json.

    Raises TrainingError with a cause that a person can act on, RunStoppedError when asked to stop.
    """
    job = prepare_sft(run, config=config, ranks=ranks)
    position = take_steps(job, position=restore(job), take=lambda step: _shown(train_step(job, step=step)))
    ranks.on_main(lambda: _finish(job, position=position))


def prepare_sft(run: RunDirectory, *, config: RunConfig, ranks: Ranks = ALONE) -> SftRun:
    """Everything that the steps need, with receipt.json written.

    Raises TrainingError when no example can be used.
    """
    base = find_base(config)
    items, receipt = _examples(run, config=config, base=base, ranks=ranks)
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
        plan=plan_of(config, pairs=len(items)),
        receipt=receipt,
        ranks=ranks,
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
    )
    job.ranks.on_main(lambda: append_lines(job.run.metrics, values=[asdict(metrics)]))
    return metrics


def batch_backward(job: SftRun, *, indices: Sequence[int], step: int) -> list[Learnt]:
    """Leave the gradient of the batch's loss on the weights of every rank; returns each demonstration's
    figures.

    Passes of any size on any number of ranks add up to the same gradient: all are divided by the batch's
    tokens.
    """
    total = sum(len(job.items[index].completion) for index in indices)
    own = job.ranks.share(indices)
    where = f"after step {step} of {job.plan.steps}"
    learnt = job.ranks.together(lambda: _passes(job, indices=own, total=total, where=where))
    job.ranks.add_gradients(job.weights.parameters)
    return job.ranks.in_order(learnt)


def _passes(job: SftRun, *, indices: Sequence[int], total: int, where: str) -> list[Learnt]:
    found: list[Learnt] = []
    items = [job.items[index] for index in indices]
    tokens = [len(item.prompt) + len(item.completion) for item in items]
    for part in passes(tokens, pairs_per_pass=job.config.optimizer.pairs_per_pass):
        raise_if_stopped(where=where)
        found += _pass(job, group=items[part], total=total)
    return found


def _pass(job: SftRun, *, group: Sequence[EncodedCompletion], total: int) -> list[Learnt]:
    """Add the gradient of some demonstrations' −Σ log π / total to the weights."""
    lengths = [len(item.completion) for item in group]
    hits = torch.zeros(sum(lengths), dtype=torch.bool, device=next(job.policy.parameters()).device)
    logps = completions_token_logps(
        job.policy,
        completions=[(item.prompt, item.completion) for item in group],
        chunk_tokens=job.config.chunk_tokens,
        hits=hits,
    )
    torch.autograd.backward(-torch.cat(logps).sum() / total)
    job.weights.collect_gradients()
    return [
        Learnt(
            nll=-float(one.detach().sum()),
            hits=int(hit.sum()),
            completion_tokens=len(item.completion),
            tokens=len(item.prompt) + len(item.completion),
        )
        for item, one, hit in zip(group, logps, torch.split(hits, lengths), strict=True)
    ]


def _examples(
    run: RunDirectory, *, config: RunConfig, base: BaseModel, ranks: Ranks
) -> tuple[tuple[EncodedCompletion, ...], Receipt]:
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    encoded = encode_demonstrations(run.examples, tokenizer=tokenizer, rules=rules)
    receipt = encoded.receipt(steps=plan_of(config, pairs=len(encoded.items)).steps)
    ranks.on_main(lambda: write_json(run.receipt, value=asdict(receipt)))
    if not encoded.items:
        raise encoded.none_usable()
    say(f"{receipt.used} of {receipt.examples} demonstrations can be used; {receipt.steps} steps")
    return encoded.items, receipt


def _finish(job: SftRun, *, position: Position) -> None:
    """Merge the adapter, write model/, and result.json last."""
    result = _result(job, position=position)
    model = merged(job.policy)
    write_model(job.run, model=model, base=job.base, card=demonstration_card(job.config, result=result))
    result = RunResult(**{**vars(result), "model_sha256": sha256_of_model(job.run.model)})
    write_json(job.run.result, value=asdict(result))
    say(f"finished: loss {result.loss_first:.4f} → {result.loss_last:.4f}; the new base is {job.run.model}")


def _result(job: SftRun, *, position: Position) -> RunResult:
    steps = list(read_demonstration_metrics(job.run.metrics))
    if not steps:
        raise TrainingError(f"{job.run.metrics} has no steps; remove checkpoints/ to train again")
    return RunResult(
        stage=job.config.stage,
        examples=job.receipt.examples,
        used=job.receipt.used,
        steps=position.step,
        seconds=position.seconds,
        base_sha256=job.base.sha256,
        examples_sha256=position.examples_sha256,
        config_sha256=position.config_sha256,
        versions=library_versions(),
        loss_first=steps[0].loss,
        loss_last=steps[-1].loss,
        pairs_per_second=position.step and len(job.items) * job.plan.epochs / position.seconds,
    )


def _shown(metrics: DemonstrationMetrics) -> str:
    return f"loss {metrics.loss:.4f}  accuracy {metrics.mean_token_accuracy:.2f}"
