"""What the trainer's tests share: examples, run directories, and a loaded job."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.core.data.encode import EncodedPair, EncodingRules, encode_pairs
from training.core.distributed import ALONE
from training.core.logprobs.pairs import PairTokenLogps, completion_token_logps
from training.core.losses.select import uses_reference
from training.core.model.loading import (
    encoding_rules,
    find_base,
    load_base,
    load_policy,
    load_tokenizer,
    trainable_parameters,
)
from training.core.run.config import RunConfig, parse_config, read_config
from training.core.run.directory import DpoExample, Receipt, RunDirectory, write_run_directory
from training.core.run.weights import trained_weights
from training.core.stages.job import DpoRun
from training.core.stages.preferences import PreferenceData
from training.core.stages.preparation import plan_of
from training.core.stages.references import reference_of

END = 257
WORDS = ("river", "because", "small", "often", "light", "never", "house", "idea", "blue", "sings")


def config(base: Path, **changes: Any) -> RunConfig:
    """A small float32 run; `optimizer` given here is merged into the usual one."""
    optimizer = {"learning_rate": 5e-3, "epochs": 2, "pairs_per_step": 2, "warmup_ratio": 0.0}
    values: dict[str, Any] = {
        "base_model": str(base),
        "lora": {"r": 4, "alpha": 8},
        "dtype": "float32",
        "checkpoint_every": 2,
        **changes,
        "optimizer": {**optimizer, **changes.get("optimizer", {})},
    }
    return parse_config(values)


def example(number: int, **changes: Any) -> DpoExample:
    """A preference whose texts differ with its number."""
    words = random.Random(number)
    values: dict[str, Any] = {
        "id": f"pair-{number}",
        "prompt": ({"role": "user", "content": " ".join(words.choices(WORDS, k=2))},),
        "chosen": ({"role": "assistant", "content": " ".join(words.choices(WORDS, k=3))},),
        "rejected": ({"role": "assistant", "content": " ".join(words.choices(WORDS, k=5))},),
    }
    return DpoExample(**{**values, **changes})


def write_run(path: Path, *, base: Path, examples: Sequence[DpoExample], **changes: Any) -> RunDirectory:
    """A frozen run directory."""
    write_run_directory(path, config=config(base, **changes), examples=examples)
    return RunDirectory(path)


def rules(settings: RunConfig) -> EncodingRules:
    base = find_base(settings)
    return encoding_rules(settings, base=base, tokenizer=load_tokenizer(base))


def load_job(run: RunDirectory, *, weights_seed: int | None = None) -> DpoRun:
    """Everything that a step needs; with a seed, the adapter's weights are made random instead of nothing."""
    settings = read_config(run.config)
    base = find_base(settings)
    tokenizer = load_tokenizer(base)
    pairs = encode_pairs(run.examples, tokenizer=tokenizer, rules=rules(settings)).items
    policy = load_policy(settings, model=load_base(settings, base=base), trainable=True)
    if weights_seed is not None:
        shake(policy, seed=weights_seed)
    weights = trained_weights(policy)
    reference = reference_of(run, config=settings, base=base, policy=policy, ranks=ALONE)
    references = reference.of_pairs(pairs) if uses_reference(settings.loss) else None
    return DpoRun(
        run=run,
        config=settings,
        base=base,
        policy=policy,
        weights=weights,
        optimizer=torch.optim.AdamW(weights.parameters, lr=1e-3, weight_decay=0.0),
        data=PreferenceData(items=pairs, references=references, loss=settings.loss, policy=policy),
        heldout=None,
        plan=plan_of(settings, pairs=len(pairs)),
        receipt=Receipt(examples=len(pairs), used=len(pairs), steps=0, left_out=()),
    )


def shake(policy: nn.Module, *, seed: int) -> None:
    """Give the adapter random weights, so that policy and reference differ."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in trainable_parameters(policy).values():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)


def gradients(policy: nn.Module) -> dict[str, torch.Tensor]:
    """The gradients on the trainable weights, by name."""
    found = {name: weight.grad for name, weight in trainable_parameters(policy).items()}
    return {name: gradient.clone() for name, gradient in found.items() if gradient is not None}


def random_pair(*, prompt: int, chosen: int, rejected: int, seed: int = 0) -> EncodedPair:
    """A pair of random tokens of the given lengths; token 0 is among them."""
    numbers = random.Random(seed)

    def tokens(count: int) -> tuple[int, ...]:
        return (0, *numbers.choices(range(256), k=count - 1))

    return EncodedPair(
        id="random",
        prompt=tokens(prompt),
        chosen=tokens(chosen),
        rejected=tokens(rejected)[::-1],
        p=1.0,
        weight=1.0,
    )


def plain_pair_logps(policy: nn.Module, pair: EncodedPair) -> PairTokenLogps:
    """Both completions of a pair, a row each: right for every causal model."""
    return PairTokenLogps(
        chosen=completion_token_logps(policy, prompt=pair.prompt, completion=pair.chosen),
        rejected=completion_token_logps(policy, prompt=pair.prompt, completion=pair.rejected),
    )
