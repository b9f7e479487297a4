"""What a recipe comes to before anything starts: warnings, time and memory, and what annotators see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annotate.models import Pair, Split, Study
from training.core.errors import ConfigError
from training.models import EvaluationPlan, Recipe, Round
from training.selectors.estimates import Estimate, run_estimate
from training.services.recipes import loss_settings, recipe_warnings

# From here on the second response of a pair often repeats the first one.
LOW_TEMPERATURE = 0.3


@dataclass(frozen=True)
class RecipePreview:
    """The next round and the next run by a recipe. `fault` is why there is nothing to say of a run."""

    warnings: list[str]
    fault: str
    estimate: Estimate | None
    preferences: int
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
    """Return what a recipe, saved or only typed, comes to: at most six queries."""
    prompts = recipe.study.prompts.filter(split=Split.TRAIN).count()
    item = Round.objects.filter(study=recipe.study).order_by("-number").first()
    pairs = (
        Pair.objects.filter(study=recipe.study, batch=item.number, purpose=Pair.Purpose.TRAIN).count()
        if item
        else 0
    )
    preferences, fault = pairs or prompts, loss_fault(recipe)
    estimate = None
    if not fault:
        estimate = run_estimate(recipe, examples=preferences, epochs=recipe.epochs, round=item)
    picks = recipe.samples_per_prompt > 2 and recipe.pair_choice != Recipe.PairChoice.RANDOM
    random_pairs = round(prompts * recipe.random_share) if picks else prompts
    return RecipePreview(
        warnings=[] if fault else [*recipe_warnings(recipe), *sampling_warnings(recipe)],
        fault=fault,
        estimate=estimate,
        preferences=preferences,
        prompts=prompts,
        responses=prompts * recipe.samples_per_prompt,
        chosen_pairs=prompts - random_pairs,
        random_pairs=random_pairs,
    )


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
    if recipe.temperature != 1 or recipe.top_p < 1 or recipe.top_k or recipe.min_p:
        found.append(
            "Only at temperature 1, with nothing cut off, are responses samples of the policy itself: "
            "otherwise the KL shown is not an estimate of KL(policy‖reference)."
        )
    if recipe.samples_per_prompt == 2 and recipe.pair_choice != Recipe.PairChoice.RANDOM:
        found.append("Two responses per prompt are one pair: to choose between pairs, draw 4 or more.")
    return found


def queue_shares(study: Study) -> QueueShares:
    """Return the shares of evaluation, repeats and gold that the study has set."""
    plan = EvaluationPlan.objects.filter(study=study).first() or EvaluationPlan(study=study)
    return QueueShares(evaluation=plan.evaluation_share, repeats=study.repeat_share, gold=study.gold_share)
