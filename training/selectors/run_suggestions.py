"""What is worth trying next on the labels of a round: settings that its form begins with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from training.core.run.config import (
    LOSS_KEYS,
    REFERENCE_FREE,
    SOFT_LABEL_LOSSES,
    TIE_LOSSES,
    USUAL_BETA,
    USUAL_NU,
)
from training.models import Recipe, Run
from training.services.further_runs import RunPlan, plan_of_run, run_repeated, runs_on_same_examples
from training.services.recipes import LOSS_FIELDS

# In multiples of a loss's usual β: half of it, itself, three times as much.
BETA_SWEEP = (0.5, 1.0, 3.0)
SEEDS_AT_ONCE = 2
LOSS_LABELS = dict(Recipe.Loss.choices)


@dataclass(frozen=True)
class Suggestion:
    """Something to try: `values` are what the form gets in place of the source's settings."""

    key: str
    title: str
    why: str
    values: Mapping[str, str] = field(default_factory=dict)


def suggestions(source: Run) -> list[Suggestion]:
    """Return what is new to try on the source's labels, the most telling first: one query.

    Raises ConfigError for a source whose config cannot be read.
    """
    plan = plan_of_run(source)
    others = runs_on_same_examples(source)
    found = [
        _beta_sweep(source, plan=plan, others=others),
        _other_start(source, plan=plan, others=others),
        _other_loss(source, plan=plan, others=others),
        _other_seeds(source, plan=plan, others=others),
    ]
    return [item for item in found if item is not None]


def _is_new(source: Run, *, plan: RunPlan, others: Sequence[Run]) -> bool:
    return run_repeated(source, plan=plan, others=others) is None


def _beta_sweep(source: Run, *, plan: RunPlan, others: Sequence[Run]) -> Suggestion | None:
    if "beta" not in LOSS_KEYS[plan.loss.name]:
        return None
    usual = USUAL_BETA.get(plan.loss.name, 0.1)
    betas = [
        beta
        for beta in (round(factor * usual, 6) for factor in BETA_SWEEP)
        if _is_new(source, plan=replace(plan, loss=replace(plan.loss, beta=beta)), others=others)
    ]
    shown = ", ".join(f"{beta:g}" for beta in betas)
    if plan.loss.name in REFERENCE_FREE:
        why = "A lower β goes on pulling pairs apart that are told apart already, a higher one stops."
    else:
        why = "A lower β lets the policy move further from the SFT reference, a higher one holds it back."
    return Suggestion("beta", f"β sweep: {shown}", why, {"beta": shown}) if betas else None


def _other_start(source: Run, *, plan: RunPlan, others: Sequence[Run]) -> Suggestion | None:
    sampled = source.round.sampled_policy
    turned = replace(plan, from_reference=not plan.from_reference)
    if not sampled.number or not _is_new(source, plan=turned, others=others):
        return None
    if turned.from_reference:
        why = f"Whether going on from {sampled.label} helps, or carries its mistakes along."
        return Suggestion(
            "start", "From the SFT reference, with a fresh adapter", why, {"start": "reference"}
        )
    why = "Whether it gains from what earlier rounds taught, beside a fresh adapter."
    return Suggestion("start", f"Going on from {sampled.label}", why, {"start": "continue"})


def _other_loss(source: Run, *, plan: RunPlan, others: Sequence[Run]) -> Suggestion | None:
    tried = {plan.loss.name, *(run.config["loss"]["name"] for run in others)}
    name = _loss_to_try(source, tried=tried)
    if name is None:
        return None
    usual = USUAL_BETA.get(name, 0.1)
    keeps = plan.loss.beta is not None and USUAL_BETA.get(plan.loss.name, 0.1) == usual
    values = {"loss": name, "beta": f"{plan.loss.beta if keeps else usual:g}"}
    # Parameters of the present loss that the other one does not know.
    values |= {field: "" for field, key in LOSS_FIELDS.items() if key not in LOSS_KEYS[name]}
    if name in USUAL_NU:
        # The two count ν differently: the usual one of either can be a model without ties for the other.
        values["nu"] = f"{USUAL_NU[name]:g}"
    return Suggestion("loss", f"Another loss: {LOSS_LABELS[name]}", _why_loss(name), values)


def _why_loss(name: str) -> str:
    if name in TIE_LOSSES:
        return "Another model of when people call two responses equal, on the same examples."
    if name == "dpo":
        return "The plain loss, to see what the other one changes, on the same examples."
    return "Another answer to labels that contradict each other, on the same examples."


def _loss_to_try(source: Run, *, tried: Collection[str]) -> str | None:
    """Return a loss that can learn from the source's examples and that no run has tried on them."""
    if source.receipt.get("ties_used"):
        wanted: tuple[str, ...] = TIE_LOSSES
    elif source.receipt.get("soft") or source.receipt.get("even"):
        wanted = SOFT_LABEL_LOSSES[:1]
    else:
        wanted = ("ipo", "dpo")
    return next((name for name in wanted if name not in tried), None)


def _other_seeds(source: Run, *, plan: RunPlan, others: Sequence[Run]) -> Suggestion:
    seeds: list[str] = []
    seed = plan.seed
    while len(seeds) < SEEDS_AT_ONCE:
        seed += 1
        if _is_new(source, plan=replace(plan, seed=seed), others=others):
            seeds.append(str(seed))
    why = "How much of a difference between runs is chance: the same settings in another order."
    return Suggestion("seed", f"Other seeds: {', '.join(seeds)}", why, {"seed": ", ".join(seeds)})
