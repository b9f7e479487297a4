"""The figures of a policy beside each other: what is kept of its responses, and how its run went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.models import Policy
from training.selectors.compare_answers import beta_of
from training.selectors.policy_summaries import Summary, stored_summaries


@dataclass(frozen=True)
class PolicyFigures:
    """A policy's summary, with the implicit reward of what it says: β times the mean log-ratio."""

    policy: Policy
    summary: Summary
    reward: float | None
    accuracy: float | None
    margin: float | None


def policy_figures(policies: Sequence[Policy], *, tag: str, beta: float) -> list[PolicyFigures]:
    """Return each policy's figures over the held-out prompts with a tag: one query. `beta` is policy 0's."""
    summaries = stored_summaries(policies, tag=tag)
    return [figures_of(policy, summary=summaries[policy.pk], beta=beta) for policy in policies]


def figures_of(policy: Policy, *, summary: Summary, beta: float) -> PolicyFigures:
    run = getattr(policy, "run", None)
    result = (run.result or {}) if run else {}
    return PolicyFigures(
        policy=policy,
        summary=summary,
        reward=None if summary.kl is None else beta_of(policy, default=beta) * summary.kl.value,
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
    )
