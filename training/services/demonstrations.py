"""A study's start from demonstrations: before its first round, an SFT run makes its reference."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from annotate.models import Study, User
from annotate.services.audit import record_audit
from training.core.run.config import EvaluationSettings, LoraSettings, OptimizerSettings, RunConfig
from training.core.run.directory import RunDirectory
from training.core.run.files import fsync_folder, sha256_of_file, write_json, write_json_lines
from training.demonstrations import Demonstration, one_prompt_alone, read_demonstrations
from training.models import DemonstrationRun, Job, Recipe
from training.services.base_models import BaseModelError, check_base_model
from training.services.jobs import Claim, JobFailed, create_job, finish_attempt, heartbeat
from training.services.run_directories import absolute, planned_steps
from training.services.runs import execute_run, training_progress

ACTIVE = (Job.State.QUEUED, Job.State.RUNNING)
SHA_CHARACTERS = 12


class LearningRefused(Exception):
    """The study cannot start from demonstrations, or not from these now; the message says why."""


@dataclass(frozen=True)
class LearningSettings:
    """How to learn from demonstrations; the adapter is merged into the new base at the end.

    `heldout_share` of the prompts is held out and looked at after each epoch (None: nothing). After
    `patience` looks without a lower loss the run stops, and the best weights are kept (None: it goes on).
    """

    learning_rate: float = 2e-4
    epochs: int = 3
    demonstrations_per_step: int = 8
    lora_r: int = 16
    heldout_share: float | None = None
    patience: int | None = None


def start_learning(
    *, study: Study, lines: Iterable[bytes], settings: LearningSettings, actor: User | None = None
) -> DemonstrationRun:
    """Freeze the demonstrations into a run directory and queue the run.

    Raises LearningRefused, and DemonstrationsRefused for lines that are none.
    """
    recipe = _recipe_before_the_first_round(study)
    demonstrations = read_demonstrations(lines)
    _check_heldout(demonstrations, settings=settings)
    config = learning_config(recipe, settings=settings)
    directory = f"runs/{study.slug}/demonstrations-{secrets.token_hex(4)}"
    sha256 = _write(absolute(directory), config=config, demonstrations=demonstrations)
    try:
        with transaction.atomic():
            # Checked again with the recipe's row held: two who press at once start one run.
            Recipe.objects.filter(pk=recipe.pk).update(seed=F("seed"))
            _recipe_before_the_first_round(study)
            return _queue(
                study,
                config=config,
                demonstrations=len(demonstrations),
                sha256=sha256,
                directory=directory,
                actor=actor,
            )
    except (IntegrityError, LearningRefused) as error:
        shutil.rmtree(absolute(directory), ignore_errors=True)
        if isinstance(error, LearningRefused):
            raise
        raise LearningRefused("Somebody else has just started this; reload the page.") from error


def learning_config(recipe: Recipe, *, settings: LearningSettings) -> RunConfig:
    """Return the config of an SFT run on the study's base model."""
    return RunConfig(
        stage="sft",
        base_model=recipe.base_model,
        lora=LoraSettings(r=settings.lora_r, alpha=2.0 * settings.lora_r),
        optimizer=OptimizerSettings(
            learning_rate=settings.learning_rate,
            epochs=settings.epochs,
            pairs_per_step=settings.demonstrations_per_step,
        ),
        evaluation=EvaluationSettings(
            share=settings.heldout_share or 0.0,
            patience=settings.patience,
            keep_best=settings.patience is not None,
        ),
        max_length=recipe.max_length,
        dtype=recipe.dtype,
        seed=recipe.seed,
    )


def learn(claim: Claim) -> None:
    """Train the job's run and make its model the study's base; finishes the attempt."""
    job = Job.objects.select_related("demonstration_run__study__recipe").get(pk=claim.job_id)
    if job.demonstration_run is None:
        raise JobFailed("The run of this job is gone; start from the demonstrations again.")
    run = job.demonstration_run
    directory = RunDirectory(absolute(run.directory))
    execute_run(claim, directory=directory.path, progress=training_progress)
    heartbeat(claim, message="Putting the new base model in its place")
    result = json.loads(directory.result.read_text(encoding="utf-8"))
    place = _place(directory.model, name=f"{run.study.slug}-sft-{result['model_sha256'][:SHA_CHARACTERS]}")
    with transaction.atomic():
        finish_attempt(claim)
        DemonstrationRun.objects.filter(pk=run.pk).update(
            result=result, model_path=f"{place.parent.name}/{place.name}"
        )
        _set_base(run.study, base=str(place), actor=job.created_by, run=run)


def use_base(*, run: DemonstrationRun, before: bool, actor: User | None = None) -> None:
    """Make a run's model the study's base, or (`before`) the one that it started from again.

    Raises LearningRefused.
    """
    _recipe_before_the_first_round(run.study)
    if not before and not run.model_path:
        raise LearningRefused(f"Demonstration run {run.number} has made no model; retry it or start another.")
    base = run.base_before if before else str(absolute(run.model_path))
    try:
        with transaction.atomic():
            _set_base(run.study, base=base, actor=actor, run=run)
    except JobFailed as error:
        raise LearningRefused(str(error)) from error


def is_learning(study: Study) -> bool:
    """Return whether a run on demonstrations is queued or under way."""
    return Job.objects.filter(study=study, kind=Job.Kind.SFT, state__in=ACTIVE).exists()


def _recipe_before_the_first_round(study: Study) -> Recipe:
    recipe = Recipe.objects.filter(study=study).first()
    if recipe is None:
        raise LearningRefused(f"{study.name} has no base model to learn with; create it as a new study.")
    if study.rounds.exists():
        raise LearningRefused(
            f"{study.name} has opened a round, and its reference never changes after that; create another "
            "study to start from demonstrations."
        )
    if is_learning(study):
        raise LearningRefused("A run on demonstrations is under way; wait for it or cancel it first.")
    return recipe


def _check_heldout(demonstrations: list[Demonstration], *, settings: LearningSettings) -> None:
    """Raise LearningRefused where a share is to be held out of demonstrations that have one prompt alone."""
    if settings.heldout_share and one_prompt_alone(demonstrations):
        raise LearningRefused(
            f"Held out = {settings.heldout_share:g}: whole prompts are held out, and the demonstrations have "
            "one prompt alone. Add demonstrations of another prompt, or leave Held out and Stop early after "
            "empty."
        )


def _write(path: Path, *, config: RunConfig, demonstrations: list[Demonstration]) -> str:
    made = RunDirectory(path)
    made.path.mkdir(parents=True)
    write_json_lines(made.examples, values=(one.as_json() for one in demonstrations))
    write_json(made.config, value=config.as_json())
    return sha256_of_file(made.examples)


def _queue(
    study: Study, *, config: RunConfig, demonstrations: int, sha256: str, directory: str, actor: User | None
) -> DemonstrationRun:
    run = DemonstrationRun.objects.create(
        study=study,
        number=study.demonstration_runs.count() + 1,
        config=config.as_json(),
        examples=demonstrations,
        dataset_sha256=sha256,
        directory=directory,
        base_before=config.base_model,
        started_by=actor,
    )
    create_job(
        study=study,
        kind=Job.Kind.SFT,
        demonstration_run=run,
        unit="steps",
        total=planned_steps(config, examples=demonstrations),
        actor=actor,
    )
    details: dict[str, Any] = {"run": run.number, "demonstrations": demonstrations}
    record_audit(study=study, actor=actor, action="demonstrations.started", details=details)
    return run


def _place(model: Path, *, name: str) -> Path:
    """Move the model to bases/<name>; one that an interrupted attempt has moved already stays."""
    place = absolute(f"bases/{name}")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        model.rename(place)
        fsync_folder(place.parent)
    try:
        check_base_model(str(place))
    except BaseModelError as error:
        raise JobFailed(
            f"The new base model is damaged: {error} Check the disk, then start again."
        ) from error
    return place


def _set_base(study: Study, *, base: str, actor: User | None, run: DemonstrationRun) -> None:
    if study.rounds.exists():
        raise JobFailed("A round was opened meanwhile; its reference stays. The new model is kept.")
    # The first training job reads the hash of the new base; that of another base would refuse it.
    Recipe.objects.filter(study=study).update(base_model=base, base_sha256="")
    details = {"run": run.number, "base_model": base}
    record_audit(study=study, actor=actor, action="reference.set", details=details)
