"""How long a run will take and how much memory it needs, said before it starts.

Time is told from what earlier runs of the same base model took here; before there is one, from the trainer's
benchmark on two CPU cores (docs/benchmarks.md). Memory is counted from the model's shape.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.models import DemonstrationRun, Job, Recipe, Round, Run, SampledResponse
from training.selectors.json_length import JsonLength
from training.services.base_models import BaseModelError, check_base_model, is_downloaded
from training.serving.command import installed_device

# The trainer's benchmark: pairs per second, parameters and tokens a pair of the model that it trained.
BENCHMARK_RATE, BENCHMARK_CORES = 0.68, 2
BENCHMARK_PARAMETERS, BENCHMARK_TOKENS = 134_500_000, 478
SECONDS_TO_START = 20.0
# Python with torch, transformers and peft, before any weights.
LIBRARY_BYTES = 600_000_000
# Weight, gradient and AdamW's two moments of an adapter's parameter, in float32.
BYTES_PER_TRAINED_PARAMETER = 16
# Scales the count of activations to the benchmark's measured peak of 2,756 MB.
ACTIVATION_FACTOR = 1.4
RESPONSES_LOOKED_AT = 50
# A demonstration is one row, and nobody knows its length before it is given.
DEMONSTRATION_TOKENS = 256
BYTES = {"bfloat16": 2, "float32": 4}


@dataclass(frozen=True)
class Speed:
    """Seconds that one example costs in one epoch, and a run's start; `source` says how that is known."""

    seconds_per_example: float
    seconds_to_start: float
    source: str


@dataclass(frozen=True)
class Estimate:
    """For one run; None where nothing is known. `tokens` is the length of a long pair in a row."""

    seconds: float | None
    gigabytes: float | None
    tokens: int
    source: str

    def times(self, runs: int) -> float | None:
        """Return the seconds that several runs take one after another."""
        return None if self.seconds is None else runs * self.seconds


@dataclass(frozen=True)
class Shape:
    """What of a model's architecture decides its memory."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    key_value_width: int


def run_estimate(recipe: Recipe, *, examples: int, epochs: float, round: Round | None) -> Estimate:
    """Return what a run of so many examples and epochs takes: at most four queries."""
    shape = shape_of(recipe.base_model)
    tokens = typical_tokens(recipe, round=round)
    speed = measured_speed(recipe) or benchmark_speed(shape, tokens=tokens)
    seconds = speed.seconds_to_start + examples * epochs * speed.seconds_per_example if speed else None
    return Estimate(
        seconds=seconds,
        gigabytes=memory_bytes(shape, recipe=recipe, tokens=tokens) / 1e9 if shape else None,
        tokens=tokens,
        source=speed.source if speed else "the first run on this machine will tell",
    )


def demonstration_speed(recipe: Recipe) -> Speed | None:
    """Return what learning from demonstrations takes: as the newest run took, else by the benchmark."""
    done = DemonstrationRun.objects.filter(
        study__recipe__base_model=recipe.base_model, job__state=Job.State.DONE, result__isnull=False
    )
    newest = done.order_by("-pk").first()
    rate = (newest.result or {}).get("pairs_per_second") if newest else None
    if rate:
        return Speed(1 / rate, SECONDS_TO_START, source="as the last run on demonstrations took")
    return benchmark_speed(shape_of(recipe.base_model), tokens=DEMONSTRATION_TOKENS)


def measured_speed(recipe: Recipe) -> Speed | None:
    """Return how fast the newest finished run of the same base model was."""
    runs = Run.objects.filter(
        round__study__recipe__base_model=recipe.base_model, job__state=Job.State.DONE, result__isnull=False
    )
    newest = runs.select_related("round__study", "job").order_by("-pk").first()
    if newest is None:
        return None
    rate, result = (newest.result or {}).get("pairs_per_second"), newest.result or {}
    epochs = newest.config.get("optimizer", {}).get("epochs", 1)
    if not rate or newest.job.started_at is None or newest.job.finished_at is None:
        return None
    took = (newest.job.finished_at - newest.job.started_at).total_seconds()
    steps = result.get("used", 0) * epochs / rate
    where = "" if newest.round.study_id == recipe.study_id else " of another study"
    return Speed(
        seconds_per_example=1 / rate,
        seconds_to_start=max(0.0, took - steps),
        source=f"as run {newest.number} of round {newest.round.number}{where} took",
    )


def benchmark_speed(shape: Shape | None, *, tokens: int) -> Speed | None:
    """Return the benchmark's speed on a CPU, scaled by cores, parameters and tokens; None on a GPU."""
    if shape is None or installed_device() != "cpu":
        return None
    work = shape.parameters / BENCHMARK_PARAMETERS * tokens / BENCHMARK_TOKENS
    cores = len(os.sched_getaffinity(0)) / BENCHMARK_CORES
    return Speed(
        seconds_per_example=work / (BENCHMARK_RATE * cores),
        seconds_to_start=SECONDS_TO_START,
        source="by the trainer's benchmark; after the first run by what that took",
    )


def typical_tokens(recipe: Recipe, *, round: Round | None) -> int:
    """Return how many tokens a long pair has: its prompt and both of its responses."""
    sampled = SampledResponse.objects.filter(policy__study=recipe.study_id, prompt__split="train")
    if round is not None:
        sampled = sampled.filter(round=round)
    some = sampled.order_by("-pk")[:RESPONSES_LOOKED_AT]
    lengths = [
        prompt + 2 * response
        for prompt, response in some.values_list(JsonLength("prompt_token_ids"), JsonLength("token_ids"))
    ]
    longest = max(lengths, default=256 + 2 * recipe.max_new_tokens)
    return min(longest, 2 * recipe.max_length)


def memory_bytes(shape: Shape, *, recipe: Recipe, tokens: int) -> float:
    """Return the peak of a run: weights, adapter with its optimiser, activations of one pair in a row."""
    per_layer = 7 * shape.hidden + 3 * shape.intermediate + 3 * shape.heads * tokens
    activations = 4 * tokens * shape.layers * per_layer * ACTIVATION_FACTOR
    trained = adapter_parameters(shape, r=recipe.lora_r) * BYTES_PER_TRAINED_PARAMETER
    return LIBRARY_BYTES + shape.parameters * BYTES[recipe.dtype] + trained + activations


def adapter_parameters(shape: Shape, *, r: int) -> int:
    """Return the parameters of LoRA on the seven linear layers of each block."""
    hidden, inner, narrow = shape.hidden, shape.intermediate, shape.key_value_width
    ends = 4 * hidden + 2 * (hidden + narrow) + 3 * (hidden + inner)
    return r * ends * shape.layers


def shape_of(base_model: str) -> Shape | None:
    """Return the shape of a model that is on this machine; None of any other and of unusual architectures."""
    folder = folder_of(base_model)
    if folder is None:
        return None
    try:
        checked = check_base_model(str(folder))
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        heads, hidden = int(config["num_attention_heads"]), int(config["hidden_size"])
        return Shape(
            parameters=checked.parameters or 0,
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            intermediate=int(config["intermediate_size"]),
            heads=heads,
            key_value_width=int(config.get("num_key_value_heads", heads)) * hidden // heads,
        )
    except (BaseModelError, OSError, ValueError, KeyError, TypeError):
        return None


def folder_of(base_model: str) -> Path | None:
    if os.path.isdir(base_model):  # no, where pathlib would raise: typed text may be any path
        return Path(base_model)
    if base_model.startswith("/") or not is_downloaded(base_model):
        return None
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(base_model, local_files_only=True))
