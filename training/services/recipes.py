"""A study's model and hyper-parameters, checked as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction

from annotate.models import User
from annotate.services.audit import record_audit
from training.core.errors import ConfigError
from training.core.run.config import (
    LOSS_KEYS,
    LossSettings,
    OptimizerSettings,
    RunConfig,
    config_warnings,
    parse_config,
)
from training.models import Job, Policy, Recipe
from training.services.base_models import BaseModelError, check_base_model
from training.serving.command import MAX_LORA_RANK

# The recipe's optional parameters of a loss, and what config.json calls them.
LOSS_FIELDS = {
    "label_smoothing": "label_smoothing",
    "gamma": "gamma",
    "orpo_lambda": "lambda",
    "nu": "nu",
    "nll_alpha": "nll_alpha",
}
FIXED_BY_FIRST_POLICY = {"lora_r": "LoRA rank", "lora_alpha": "LoRA α"}


def update_recipe(*, recipe: Recipe, actor: User | None, **changes: Any) -> Recipe:
    """Change some of the recipe's values; runs that exist keep theirs.

    Raises ValidationError with a sentence per field, and then changes nothing.
    """
    before = {name: getattr(recipe, name) for name in changes}
    changed = {name: value for name, value in changes.items() if before[name] != value}
    _check_changes(recipe, changed)
    for name, value in changed.items():
        setattr(recipe, name, value)
    try:
        check_recipe(recipe)
    except ValidationError:
        recipe.refresh_from_db()
        raise
    with transaction.atomic():
        recipe.save(update_fields=sorted(changed))
        details = {name: [before[name], value] for name, value in changed.items()}
        record_audit(study=recipe.study, actor=actor, action="recipe.changed", details=details)
    return recipe


def check_recipe(recipe: Recipe) -> None:
    """Raise ValidationError for values that cannot work, alone or together; each names its remedy."""
    errors = {name: [message] for name, message in _faults(recipe).items()}
    if errors:
        raise ValidationError(errors)
    recipe.full_clean(exclude=["study"], validate_unique=False)


def loss_settings(recipe: Recipe) -> LossSettings:
    """Return the recipe's loss as the trainer reads it. Raises ConfigError with the trainer's own sentence.

    An empty parameter is the loss's default; β goes along where the loss has one.
    """
    return loss_of(
        recipe.loss, beta=recipe.beta, parameters={field: getattr(recipe, field) for field in LOSS_FIELDS}
    )


def loss_of(name: str, *, beta: float, parameters: Mapping[str, float | None]) -> LossSettings:
    """Return a loss as the trainer reads it; `parameters` by the recipe's names. Raises ConfigError."""
    values: dict[str, Any] = {"name": name}
    if "beta" in LOSS_KEYS.get(name, ()):
        values["beta"] = beta
    values |= {LOSS_FIELDS[field]: value for field, value in parameters.items() if value is not None}
    return parse_config({"base_model": "any", "loss": values}).loss


def _loss_faults(recipe: Recipe) -> dict[str, str]:
    try:
        loss_settings(recipe)
    except ConfigError as error:
        return {field_of_fault(error): f"{error}."}
    return {}


def field_of_fault(error: ConfigError) -> str:
    """Return which of the recipe's settings the trainer's sentence about a loss is about."""
    said = str(error)
    field = next((field for field, key in LOSS_FIELDS.items() if f"loss.{key} " in said), "loss")
    return "beta" if said.startswith("β") else field


def recipe_warnings(recipe: Recipe) -> list[str]:
    """Return what works but tends to go wrong."""
    return settings_warnings(
        [loss_settings(recipe)], pairs_per_step=recipe.pairs_per_step, learning_rate=recipe.learning_rate
    )


def settings_warnings(
    losses: Iterable[LossSettings], *, pairs_per_step: int, learning_rate: float
) -> list[str]:
    """Return what of some losses, with these settings, works but tends to go wrong, each sentence once."""
    optimizer = OptimizerSettings(learning_rate=learning_rate, pairs_per_step=pairs_per_step)
    found = [
        f"{warning}."
        for loss in losses
        for warning in config_warnings(RunConfig(base_model="any", loss=loss, optimizer=optimizer))
    ]
    return list(dict.fromkeys(found))


def _faults(recipe: Recipe) -> dict[str, str]:
    faults = _loss_faults(recipe)
    if not recipe.beta > 0:
        faults["beta"] = f"β = {recipe.beta:g} must be above 0; 0.1 is usual."
    if not recipe.learning_rate > 0:
        faults["learning_rate"] = (
            f"Learning rate = {recipe.learning_rate:g} must be above 0; 5e-5 is usual with LoRA."
        )
    if not recipe.temperature > 0:
        faults["temperature"] = (
            f"Temperature = {recipe.temperature:g} makes the two responses of a pair identical; 1.0 is usual."
        )
    if recipe.max_new_tokens >= recipe.max_length:
        faults["max_new_tokens"] = (
            f"A response of {recipe.max_new_tokens} new tokens does not fit into a maximum length of "
            f"{recipe.max_length} with its prompt; lower the one or raise the other."
        )
    if recipe.lora_r > MAX_LORA_RANK:
        faults["lora_r"] = (
            f"LoRA rank = {recipe.lora_r} is above {MAX_LORA_RANK}, the engine's limit; 16 is usual."
        )
    return faults


def _check_changes(recipe: Recipe, changed: dict[str, Any]) -> None:
    trained = Policy.objects.filter(study_id=recipe.study_id, number__gt=0).exists()
    for name, label in FIXED_BY_FIRST_POLICY.items():
        if trained and name in changed:
            kept = getattr(recipe, name)
            raise ValidationError({name: [f"{label} stays {kept}: later rounds continue the same adapter."]})
    if "base_model" not in changed:
        return
    if recipe.study.rounds.exists():
        raise ValidationError(
            {"base_model": ["The base model is fixed once a round is open; create another study."]}
        )
    if Job.objects.filter(
        study_id=recipe.study_id, kind=Job.Kind.SFT, state__in=(Job.State.QUEUED, Job.State.RUNNING)
    ).exists():
        said = "A run on demonstrations is under way and sets the base model; wait for it or cancel it first."
        raise ValidationError({"base_model": [said]})
    try:
        changed["base_model"] = check_base_model(changed["base_model"]).path_or_id
    except BaseModelError as error:
        raise ValidationError({"base_model": [str(error)]}) from error
