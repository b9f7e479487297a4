"""The run directory of a round's run: where it lies and what is frozen into it."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from training.core.run.config import LoraSettings, OptimizerSettings, RunConfig
from training.core.run.directory import RunDirectory, write_run_directory
from training.core.run.files import sha256_of_file, write_json
from training.models import Policy, Recipe, Round, Run
from training.services.recipes import loss_settings
from training.services.training_set import TrainingSet


@dataclass(frozen=True)
class FrozenRun:
    """A run directory as it was written; `directory` is its path below STUDIO_HOME."""

    directory: str
    config: dict[str, Any]
    dataset_sha256: str
    steps: int


def freeze_run_directory(*, round: Round, number: int, training_set: TrainingSet) -> FrozenRun:
    """Write the run directory of a round's run, under a name that no other attempt can have."""
    directory = f"runs/{round.study.slug}/round-{round.number}-run-{number}-{secrets.token_hex(4)}"
    config = run_config(round)
    sha256 = write_run_directory(absolute(directory), config=config, examples=training_set.examples)
    return FrozenRun(
        directory=directory,
        config=config.as_json(),
        dataset_sha256=sha256,
        steps=planned_steps(config, examples=len(training_set.examples)),
    )


def copy_run_directory(source: Run, *, number: int, config: RunConfig) -> FrozenRun:
    """Write the run directory of a further run on exactly the examples of another run of its round."""
    item = source.round
    directory = f"runs/{item.study.slug}/round-{item.number}-run-{number}-{secrets.token_hex(4)}"
    made, given = RunDirectory(absolute(directory)), RunDirectory(absolute(source.directory))
    made.path.mkdir(parents=True)
    for file, copy in ((given.examples, made.examples), (given.heldout, made.heldout)):
        if file.exists():
            shutil.copyfile(file, copy)
    write_json(made.config, value=config.as_json())
    with made.examples.open("rb") as lines:
        examples = sum(1 for _ in lines)
    return FrozenRun(
        directory=directory,
        config=config.as_json(),
        dataset_sha256=sha256_of_file(made.examples),
        steps=planned_steps(config, examples=examples),
    )


def remove_run_directory(frozen: FrozenRun) -> None:
    """Remove a directory whose run was not created after all."""
    shutil.rmtree(absolute(frozen.directory), ignore_errors=True)


def absolute(directory: str) -> Path:
    """Return the path of something that a row names below STUDIO_HOME."""
    return Path(settings.STUDIO_HOME) / directory


def run_config(round: Round) -> RunConfig:
    """Return the config of a run that continues the round's sampled policy against the frozen reference."""
    recipe = round.study.recipe
    return RunConfig(
        base_model=recipe.base_model,
        base_sha256=recipe.base_sha256 or None,
        parent_adapter=adapter_of(round.sampled_policy),
        lora=LoraSettings(r=recipe.lora_r, alpha=float(recipe.lora_alpha)),
        loss=loss_settings(recipe),
        optimizer=OptimizerSettings(
            learning_rate=recipe.learning_rate, epochs=recipe.epochs, pairs_per_step=recipe.pairs_per_step
        ),
        max_length=recipe.max_length,
        dtype=recipe.dtype,
        seed=recipe.seed,
        ledger=str(ledger_of(recipe)),
    )


def scoring_config(policy: Policy) -> RunConfig:
    """Return the config that scores texts under a policy and the reference."""
    recipe: Recipe = policy.study.recipe
    return RunConfig(
        stage="score",
        base_model=recipe.base_model,
        base_sha256=recipe.base_sha256 or None,
        parent_adapter=adapter_of(policy),
        max_length=recipe.max_length,
        dtype=recipe.dtype,
        ledger=str(ledger_of(recipe)),
    )


def ledger_of(recipe: Recipe) -> Path:
    """Return the file that keeps the reference's log-probs for every round of every study on this base model.

    Its entries are keyed by the base model's weights, so the name only has to tell base models apart.
    """
    name = re.sub(r"[^\w.-]+", "-", Path(recipe.base_model).name)
    told_apart = hashlib.sha256(recipe.base_model.encode()).hexdigest()[:8]
    return absolute(f"ledgers/{name}-{told_apart}.sqlite")


def adapter_of(policy: Policy) -> str | None:
    """Return the absolute path of the policy's adapter; None for the reference."""
    return str(absolute(policy.adapter_path)) if policy.adapter_path else None


def planned_steps(config: RunConfig, *, examples: int) -> int:
    """Return how many optimiser steps the run takes when every example can be used."""
    return config.optimizer.epochs * math.ceil(examples / config.optimizer.pairs_per_step)
