"""The evaluation page: which policy is preferred, by whom, how sure that is, and what more takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from annotate.models import Study
from training.evaluation.bradley_terry import Strength
from training.evaluation.charts import share_chart, strength_chart
from training.evaluation.win_rate import WinRate
from training.models import Policy
from training.policy_chart import Chart, Point
from training.selectors.evaluation import (
    PolicyEvaluation,
    StudyEvaluation,
    TagRate,
    rates_by_tag,
    study_evaluation,
)
from training.selectors.evaluation_headline import basis_of, headline_of
from training.selectors.policy_in_use import in_use, way_to
from training.statistics import Interval


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

    @property
    def basis(self) -> str:
        return basis_of(self.evaluation)


def evaluation_page(study: Study, *, policy: int | None = None) -> EvaluationPage:
    """Return the page in a fixed number of queries; `policy` is whose tags are shown.

    By default those of the policy in use, or of the newest that has been judged.
    """
    found = study_evaluation(study, settled=in_use(study))
    shown = found.row(policy) if policy is not None else None
    judged = found.in_use if found.in_use and found.in_use.over_reference.interval else None
    shown = shown or judged or newest_judged(found.rows) or found.newest
    return EvaluationPage(
        evaluation=found,
        shown=shown,
        tags=rates_by_tag(study, row=shown, shared=found) if shown else [],
        win_rates=win_rate_chart(found),
        strengths=strengths_of(found),
    )


def newest_judged(rows: Sequence[PolicyEvaluation]) -> PolicyEvaluation | None:
    return next((row for row in reversed(rows) if row.over_reference.interval), None)


def win_rate_chart(found: StudyEvaluation) -> Chart | None:
    """Return the win rates by policy; the line leads through those that rounds went on from."""
    way = way_to(found.policy_in_use, policies=found.policies)
    series = [("over the SFT reference", points(found.rows, way=way, rate=lambda row: row.over_reference))]
    if any(row.over_parent for row in found.rows):
        series.append(("over its parent", points(found.rows, way=way, rate=lambda row: row.over_parent)))
    return share_chart(series) if found.rows else None


def points(
    rows: Sequence[PolicyEvaluation],
    *,
    way: frozenset[int],
    rate: Callable[[PolicyEvaluation], WinRate | None],
) -> list[Point]:
    return [point_of(row.policy, interval_of(rate(row)), way=way) for row in rows]


def interval_of(rate: WinRate | None) -> Interval | None:
    return rate.interval if rate else None


def point_of(policy: Policy, interval: Interval | None, *, way: frozenset[int]) -> Point:
    label, aside = str(policy.number), policy.pk not in way
    if interval is None:
        return Point(label, None, is_aside=aside)
    return Point(label, interval.share, interval.low, interval.high, is_aside=aside)


def strengths_of(found: StudyEvaluation) -> Chart | None:
    placed = {row.policy: row for row in found.strengths.rows}
    if not placed:
        return None
    way = way_to(found.policy_in_use, policies=found.policies)
    return strength_chart([strength_point(item, placed.get(item.pk), way=way) for item in found.policies])


def strength_point(policy: Policy, strength: Strength | None, *, way: frozenset[int]) -> Point:
    label, aside = "SFT" if policy.number == 0 else str(policy.number), policy.pk not in way
    if strength is None:
        return Point(label, None, is_aside=aside)
    return Point(label, strength.value, strength.low, strength.high, is_aside=aside)
