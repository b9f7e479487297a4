"""From a run directory to a run in memory: examples, model, weights, and the reference's log-probs."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import nn

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
from training.core.logprobs.pairs import PairLogpsFunction, pair_logps_function, shared_pair_logps
from training.core.losses.select import uses_reference
from training.core.model.loading import (
    encoding_rules,
    find_base,
    load_base,
    load_policy,
    load_tokenizer,
)
from training.core.process import raise_if_stopped
from training.core.progress import say
from training.core.run.config import RunConfig
from training.core.run.directory import Receipt, RunDirectory
from training.core.run.files import write_json
from training.core.run.weights import recompute_activations, trained_weights
from training.core.stages.heldout import split_by_prompt
from training.core.stages.job import Data, DpoRun
from training.core.stages.preferences import PreferenceData
from training.core.stages.references import completion_references, reference_logps
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
    policy = _policy(config, model=load_base(config, base=base))
    weights = trained_weights(policy)
    pair_logps = pair_logps_function(policy)
    if pair_logps is not shared_pair_logps:
        say("this model's attention cannot share a prompt between completions; computing it twice per pair")
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
        data=_data(training, config=config, policy=policy, pair_logps=pair_logps),
        heldout=_data(heldout, config=config, policy=policy, pair_logps=pair_logps) if heldout else None,
        plan=plan_of(config, pairs=len(training)),
        receipt=receipt,
        ranks=ranks,
    )


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
        sides = split_by_prompt(encoded.items, share=config.evaluation.share, seed=config.seed)
        training, heldout = map(_with_mean_weight_one, sides)
    receipt = encoded.receipt(steps=plan_of(config, pairs=len(training)).steps)
    receipt = replace(receipt, heldout=len(heldout))
    if ranks.main:
        write_json(run.receipt, value=asdict(receipt))
    if not encoded.items:
        raise encoded.none_usable()
    _check_split(training, heldout=heldout, config=config)
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


def _check_split(training: tuple[Encoded, ...], *, heldout: tuple[Encoded, ...], config: RunConfig) -> None:
    settings = config.evaluation
    if not training:
        raise TrainingError(
            f"evaluation.share = {settings.share:g} holds out every prompt there is; lower it or add prompts"
        )
    if not heldout and (settings.patience is not None or settings.keep_best or settings.share > 0):
        raise TrainingError(
            f"nothing is held out to evaluate on (evaluation.share = {settings.share:g}); raise the share "
            "or put "
            "a heldout.jsonl into the run directory"
        )


def _policy(config: RunConfig, *, model: nn.Module) -> nn.Module:
    """The model with what is trained of it marked: an adapter, or every weight."""
    if config.trainable == "full":
        policy = model.requires_grad_(True)
    else:
        policy = load_policy(config, model=model, trainable=True)
    if config.gradient_checkpointing:
        recompute_activations(policy)
    return policy


def _data(
    items: tuple[Encoded, ...], *, config: RunConfig, policy: nn.Module, pair_logps: PairLogpsFunction
) -> Data:
    pairs = tuple(item for item in items if isinstance(item, EncodedPair))
    if config.loss.name == "kto":
        unpaired = tuple(item for item in items if isinstance(item, EncodedUnpaired))
        return _unpaired_data(unpaired, config=config, policy=policy)
    references = None
    if uses_reference(config.loss):
        references = reference_logps(policy, pairs=pairs, pair_logps=pair_logps)
    return PreferenceData(
        items=pairs,
        references=references,
        loss=config.loss,
        policy=policy,
        pair_logps=pair_logps,
        pairs_per_pass=config.optimizer.pairs_per_pass or 1,
    )


def _unpaired_data(
    items: tuple[EncodedUnpaired, ...], *, config: RunConfig, policy: nn.Module
) -> UnpairedData:
    mismatched = mismatches(items, max_length=config.max_length)
    references = completion_references(
        policy, completions=[(item.prompt, item.completion) for item in (*items, *mismatched)]
    )
    return UnpairedData(
        items=items,
        references=references[: len(items)],
        mismatches=mismatched,
        mismatch_references=references[len(items) :],
        loss=config.loss,
        policy=policy,
    )
