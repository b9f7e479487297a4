"""From a run directory to a run in memory: examples, model, weights, and the reference's log-probs."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from training.core.data.encode import (
    EncodedPair,
    EncodedUnpaired,
    EncodingRules,
    Tokenizer,
    encode_pairs,
    encode_unpaired,
)
from training.core.data.examples import EncodedExamples
from training.core.distributed import Ranks
from training.core.errors import TrainingError
from training.core.lanes import open_lanes
from training.core.logprobs.paths import logps_path
from training.core.losses.select import uses_reference
from training.core.model.loading import (
    encoding_rules,
    find_base,
    load_base,
    load_tokenizer,
)
from training.core.process import raise_if_stopped
from training.core.progress import say
from training.core.run.config import EvaluationSettings, RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.files import write_json
from training.core.run.weights import trainable_policy, trained_weights
from training.core.stages.heldout import split_by_prompt
from training.core.stages.job import Data, DpoRun
from training.core.stages.preferences import PreferenceData
from training.core.stages.references import Reference, reference_of
from training.core.stages.schedule import Plan
from training.core.stages.unpaired import UnpairedData, mismatches

Encoded = EncodedPair | EncodedUnpaired


def prepare(run: RunDirectory, *, config: RunConfig, ranks: Ranks) -> DpoRun:
    """Everything that the steps need, with receipt.json written.

    Raises TrainingError when no example can be used.
    """
    base = find_base(config)
    tokenizer = load_tokenizer(base)
    rules = encoding_rules(config, base=base, tokenizer=tokenizer)
    training, heldout, receipt = _examples(run, config=config, tokenizer=tokenizer, rules=rules, ranks=ranks)
    raise_if_stopped(where="before the model was loaded")
    policy = trainable_policy(config, model=load_base(config, base=base))
    weights = trained_weights(policy)
    lanes = open_lanes(policy)
    if not (path := logps_path(policy)).shares_prompt:
        say(f"a pair's prompt is computed twice: {path.reason}")
    reference = reference_of(run, config=config, base=base, policy=policy, ranks=ranks, lanes=lanes)
    return DpoRun(
        run=run,
        config=config,
        base=base,
        policy=policy,
        weights=weights,
        optimizer=torch.optim.AdamW(
            weights.parameters,
            lr=config.optimizer.learning_rate,
            weight_decay=config.optimizer.weight_decay,
        ),
        data=_data(training, config=config, reference=reference),
        heldout=_data(heldout, config=config, reference=reference) if heldout else None,
        plan=plan_of(config, pairs=len(training)),
        receipt=receipt,
        ranks=ranks,
        truncated_share=truncated_share(training, end_tokens=rules.end_tokens),
    )


def truncated_share(items: Sequence[Encoded], *, end_tokens: frozenset[int]) -> float:
    """The share of the examples' completions that do not end with an end token."""
    completions = [
        completion
        for item in items
        for completion in (
            (item.chosen, item.rejected) if isinstance(item, EncodedPair) else (item.completion,)
        )
    ]
    return sum(completion[-1] not in end_tokens for completion in completions) / len(completions)


def plan_of(config: RunConfig, *, pairs: int) -> Plan:
    """The steps over that many training examples."""
    settings = config.optimizer
    return Plan(pairs=pairs, pairs_per_step=settings.pairs_per_step, epochs=settings.epochs, seed=config.seed)


def _examples(
    run: RunDirectory, *, config: RunConfig, tokenizer: Tokenizer, rules: EncodingRules, ranks: Ranks
) -> tuple[tuple[Encoded, ...], tuple[Encoded, ...], Receipt]:
    """Training examples, held-out ones, and the receipt, which is on disk then."""
    encoded = _encoded(run.examples, config=config, tokenizer=tokenizer, rules=rules)
    training: tuple[Encoded, ...] = encoded.items
    heldout: tuple[Encoded, ...] = ()
    if run.heldout.exists():
        given = _encoded(run.heldout, config=config, tokenizer=tokenizer, rules=rules)
        heldout = given.items
        if not heldout:
            raise TrainingError(f"heldout.jsonl: {given.none_usable()}")
    elif config.evaluation.share > 0:
        sides = split_by_prompt(training, share=config.evaluation.share, seed=config.seed)
        training, heldout = (_with_mean_weight_one(side) for side in sides)
    receipt = encoded.receipt(steps=plan_of(config, pairs=len(training)).steps)
    receipt = replace(receipt, heldout=len(heldout))
    if ranks.main:
        write_json(run.receipt, value=asdict(receipt))
    if not encoded.items:
        raise encoded.none_usable()
    check_heldout(heldout, config=config)
    called = "examples" if config.loss.name == "kto" else "pairs"
    held = f", {len(heldout)} held out" if heldout else ""
    say(f"{receipt.used} of {receipt.examples} {called} can be used{held}; {receipt.steps} steps")
    return training, heldout, receipt


def _with_mean_weight_one(items: tuple[Encoded, ...]) -> tuple[Encoded, ...]:
    if not items:
        return items
    mean = sum(item.weight for item in items) / len(items)
    return tuple(replace(item, weight=item.weight / mean) for item in items)


def _encoded(
    path: Path, *, config: RunConfig, tokenizer: Tokenizer, rules: EncodingRules
) -> EncodedExamples[EncodedPair] | EncodedExamples[EncodedUnpaired]:
    if config.loss.name == "kto":
        return encode_unpaired(path, tokenizer=tokenizer, rules=rules)
    return encode_pairs(path, tokenizer=tokenizer, rules=rules)


def check_heldout(heldout: Sequence[object], *, config: RunConfig) -> None:
    """Raise TrainingError where nothing is held out for settings that ask for it, naming them."""
    settings = config.evaluation
    unset = asdict(EvaluationSettings())
    asking = [f"evaluation.{name}" for name, value in asdict(settings).items() if value != unset[name]]
    if heldout or not asking:
        return
    remedy = "set evaluation.share (0.1 is usual)"
    if settings.share > 0:
        remedy = "all examples have one prompt, which is never divided; add examples of other prompts"
    raise TrainingError(
        f"{', '.join(asking)}: nothing is held out to evaluate on (evaluation.share = {settings.share:g}); "
        f"{remedy} or put a heldout.jsonl into the run directory"
    )


def _data(items: tuple[Encoded, ...], *, config: RunConfig, reference: Reference) -> Data:
    if config.loss.name == "kto":
        unpaired = tuple(item for item in items if isinstance(item, EncodedUnpaired))
        return _unpaired_data(unpaired, config=config, reference=reference)
    pairs = tuple(item for item in items if isinstance(item, EncodedPair))
    return PreferenceData(
        items=pairs,
        references=reference.of_pairs(pairs) if uses_reference(config.loss) else None,
        loss=config.loss,
        policy=reference.policy,
        pairs_per_pass=config.optimizer.pairs_per_pass,
        chunk_tokens=config.chunk_tokens,
        lanes=reference.lanes,
    )


def _unpaired_data(
    items: tuple[EncodedUnpaired, ...], *, config: RunConfig, reference: Reference
) -> UnpairedData:
    mismatched = mismatches(items, max_length=config.max_length)
    own = [(item.prompt, item.completion) for item in items]
    others = [(mismatch.prompt, mismatch.completion) for mismatch in mismatched]
    logps = reference.of_completions(own + others)
    return UnpairedData(
        items=items,
        references=logps[: len(items)],
        mismatches=mismatched,
        mismatch_references=logps[len(items) :],
        loss=config.loss,
        policy=reference.policy,
        chunk_tokens=config.chunk_tokens,
        lanes=reference.lanes,
    )
