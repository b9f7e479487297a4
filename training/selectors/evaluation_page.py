"""The evaluation page: which policy is preferred, by whom, how sure that is, and what more takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annotate.models import Study
from training.evaluation.bradley_terry import Strength
from training.evaluation.charts import share_chart, strength_chart
from training.evaluation.win_rate import WinRate
from training.policy_chart import Chart, Point
from training.selectors.evaluation import (
    PolicyEvaluation,
    StudyEvaluation,
    TagRate,
    rates_by_tag,
    study_evaluation,
)
from training.selectors.evaluation_headline import headline_of


@dataclass(frozen=True)
class EvaluationPage:
    """All that the page shows; `shown` is the policy whose tags are listed."""

    evaluation: StudyEvaluation
    shown: PolicyEvaluation | None
    tags: list[TagRate]
    win_rates: Chart | None
    strengths: Chart | None

    @property
    def rows(self) -> list[PolicyEvaluation]:
        """Return the policies, the newest first."""
        return list(reversed(self.evaluation.rows))

    @property
    def placed_rows(self) -> list[tuple[PolicyEvaluation, Strength | None, int]]:
        """Return the policies, the newest first, each with its strength where verdicts give it one.

        The last is how many held-out prompts nobody has judged it on against the reference.
        """
        placed = {row.policy: row for row in self.evaluation.strengths.rows}
        prompts = self.evaluation.heldout_prompts
        return [
            (row, placed.get(row.policy.pk), max(0, prompts - row.over_reference.tally.prompts))
            for row in self.rows
        ]

    @property
    def unplaced(self) -> list[str]:
        """Return the labels of the policies that no chain of verdicts connects with the reference."""
        missing = set(self.evaluation.strengths.unconnected)
        return [row.policy.label for row in self.evaluation.rows if row.policy.pk in missing]

    @property
    def headline(self) -> str:
        return headline_of(self.evaluation)


def evaluation_page(study: Study, *, policy: int | None = None) -> EvaluationPage:
    """Return the page in a fixed number of queries; `policy` is whose tags are shown (the newest judged)."""
    found = study_evaluation(study)
    shown = found.row(policy) if policy is not None else None
    shown = shown or newest_judged(found.rows) or found.newest
    return EvaluationPage(
        evaluation=found,
        shown=shown,
        tags=rates_by_tag(study, row=shown, shared=found) if shown else [],
        win_rates=win_rate_chart(found.rows),
        strengths=strengths_of(found),
    )


def newest_judged(rows: Sequence[PolicyEvaluation]) -> PolicyEvaluation | None:
    return next((row for row in reversed(rows) if row.over_reference.interval), None)


def win_rate_chart(rows: Sequence[PolicyEvaluation]) -> Chart | None:
    series = [("over the SFT reference", points(rows, rate=lambda row: row.over_reference))]
    if any(row.over_parent for row in rows):
        series.append(("over its parent", points(rows, rate=lambda row: row.over_parent)))
    return share_chart(series) if rows else None


def points(
    rows: Sequence[PolicyEvaluation], *, rate: Callable[[PolicyEvaluation], WinRate | None]
) -> list[Point]:
    found = [(str(row.policy.number), rate(row)) for row in rows]
    return [
        Point(label, item.interval.share, item.interval.low, item.interval.high)
        if item and item.interval
        else Point(label, None)
        for label, item in found
    ]


def strengths_of(found: StudyEvaluation) -> Chart | None:
    placed = {row.policy: row for row in found.strengths.rows}
    policies = ([found.reference] if found.reference else []) + [row.policy for row in found.rows]
    rows = [
        (("SFT" if policy.number == 0 else str(policy.number)), placed.get(policy.pk)) for policy in policies
    ]
    if not placed:
        return None
    return strength_chart(
        [Point(label, row.value, row.low, row.high) if row else Point(label, None) for label, row in rows]
    )
