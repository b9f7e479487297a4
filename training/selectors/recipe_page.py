"""What a recipe comes to before anything starts: warnings, time and memory, and what annotators see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annotate.models import Pair, Split, Study
from training.core.errors import ConfigError
from training.evaluation.kl_bias import NEUTRAL
from training.models import EvaluationPlan, Recipe, Round, Run
from training.selectors.estimates import Estimate, run_estimate
from training.services.demo import DEMO_RECIPE
from training.services.recipes import loss_settings, recipe_warnings

# From here on the second response of a pair often repeats the first one.
LOW_TEMPERATURE = 0.3


@dataclass(frozen=True)
class RecipePreview:
    """The next round and the next run by a recipe. `fault` is why there is nothing to say of a run.

    `preferences` are what that run learns from if every pair of its round is used; `earlier` of them, which
    rounds before gave.
    """

    warnings: list[str]
    fault: str
    estimate: Estimate | None
    preferences: int
    earlier: int
    prompts: int
    responses: int
    chosen_pairs: int
    random_pairs: int


@dataclass(frozen=True)
class QueueShares:
    """What annotators see beside the round's pairs, as shares of all pairs that they see."""

    evaluation: float
    repeats: float
    gold: float


def recipe_preview(recipe: Recipe) -> RecipePreview:
    """Return what a recipe, saved or only typed, comes to: at most seven queries."""
    prompts = recipe.study.prompts.filter(split=Split.TRAIN).count()
    newest = Round.objects.filter(study=recipe.study).order_by("-number").first()
    collecting = newest if newest and newest.state == Round.State.COLLECTING else None
    pairs = (
        Pair.objects.filter(study=recipe.study, batch=collecting.number, purpose=Pair.Purpose.TRAIN).count()
        if collecting
        else 0
    )
    earlier, fault = used_before(recipe.study), loss_fault(recipe)
    preferences = earlier + (pairs or prompts)
    estimate = None
    if not fault:
        estimate = run_estimate(recipe, examples=preferences, epochs=recipe.epochs, round=newest)
    picks = recipe.samples_per_prompt > 2 and recipe.pair_choice != Recipe.PairChoice.RANDOM
    random_pairs = round(prompts * recipe.random_share) if picks else prompts
    return RecipePreview(
        warnings=[] if fault else [*recipe_warnings(recipe), *sampling_warnings(recipe)],
        fault=fault,
        estimate=estimate,
        preferences=preferences,
        earlier=earlier,
        prompts=prompts,
        responses=prompts * recipe.samples_per_prompt,
        chosen_pairs=prompts - random_pairs,
        random_pairs=random_pairs,
    )


def used_before(study: Study) -> int:
    """Return how many preferences the newest training set has, if its rules let the next one use them too."""
    newest = Run.objects.filter(round__study=study).order_by("-pk").only("receipt").first()
    receipt = newest.receipt if newest else {}
    older_rounds_count = receipt.get("rules", {}).get("older_weight", 1.0) > 0
    return int(receipt.get("usable", 0)) if older_rounds_count else 0


def typed_recipe(recipe: Recipe, *, values: dict[str, Any]) -> Recipe:
    """Return the recipe as it would be with what was typed; nothing is saved."""
    kept = {field.attname: getattr(recipe, field.attname) for field in Recipe._meta.concrete_fields}
    return Recipe(**(kept | values))


def loss_fault(recipe: Recipe) -> str:
    try:
        loss_settings(recipe)
    except ConfigError as error:
        return f"{error}."
    return ""


def sampling_warnings(recipe: Recipe) -> list[str]:
    """Return what of the sampling works but tends to go wrong."""
    found = []
    if 0 < recipe.temperature < LOW_TEMPERATURE:
        found.append(
            f"Temperature = {recipe.temperature:g} gives nearly the same response twice, and pairs whose "
            "responses are the same are dropped; 1.0 is usual."
        )
    if recipe.samples_per_prompt == 2 and recipe.pair_choice != Recipe.PairChoice.RANDOM:
        found.append("Two responses per prompt are one pair: to choose between pairs, draw 4 or more.")
    return found


def sampling_notes(recipe: Recipe) -> dict[str, str]:
    """Return by setting of the sampling what its choice means for the KL figures; it is no warning."""
    return {
        name: f"Other than {neutral:g}, it marks the KL figures as biased: responses are then not drawn from "
        "the policy as it is."
        for name, neutral in NEUTRAL.items()
        if getattr(recipe, name) != neutral
    }


def has_demo_settings(recipe: Recipe) -> bool:
    """Return whether the recipe is still the demo's where that differs from a new study's."""
    return all(getattr(recipe, name) == value for name, value in DEMO_RECIPE.items())


def queue_shares(study: Study) -> QueueShares:
    """Return the shares of evaluation, repeats and gold that the study has set."""
    plan = EvaluationPlan.objects.filter(study=study).first() or EvaluationPlan(study=study)
    return QueueShares(evaluation=plan.evaluation_share, repeats=study.repeat_share, gold=study.gold_share)
