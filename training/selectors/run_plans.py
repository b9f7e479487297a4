"""What a form of further runs asks for: each run in words, and whether it is there already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.models import Run
from training.selectors.round_runs import difference
from training.services.further_runs import (
    RunPlan,
    examples_fault,
    further_config,
    run_repeated,
    runs_on_same_examples,
)


@dataclass(frozen=True)
class PlannedRun:
    """A run that the form asks for; `repeats` is the run that it would only be once more."""

    plan: RunPlan
    words: str
    repeats: Run | None


def planned_runs(source: Run, *, plans: Sequence[RunPlan]) -> list[PlannedRun]:
    """Return the plans with what each is and whether a run has been that already: one query."""
    others = runs_on_same_examples(source)
    return [
        PlannedRun(
            plan,
            words=plan_in_words(source, plan=plan),
            repeats=run_repeated(source, plan=plan, others=others),
        )
        for plan in plans
    ]


def new_plans(planned: Sequence[PlannedRun]) -> list[RunPlan]:
    """Return the plans that are new; where none is, all of them, so that their refusal says why."""
    return [one.plan for one in planned if one.repeats is None] or [one.plan for one in planned]


def fault_of(source: Run, *, plans: Sequence[RunPlan]) -> str:
    """Return why the plans cannot learn from the source's examples, as its receipt tells of them."""
    counts = {name: int(source.receipt.get(name) or 0) for name in ("ties_used", "soft", "even")}
    soft = counts["soft"] + counts["even"]
    return examples_fault(source, plans=plans, ties=counts["ties_used"], soft=soft)


def plan_in_words(source: Run, *, plan: RunPlan) -> str:
    config = further_config(source, plan=plan).as_json()
    return difference(Run(config=config, dataset_sha256=source.dataset_sha256), first=source)
