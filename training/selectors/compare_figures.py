"""The figures of a policy beside each other: what is kept of its responses, and how its run went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.models import Policy
from training.selectors.compare_answers import beta_of
from training.selectors.kl_biases import kl_biases
from training.selectors.policy_summaries import Summary, stored_summaries


@dataclass(frozen=True)
class PolicyFigures:
    """A policy's summary, with the implicit reward of what it says: β times the mean log-ratio.

    `kl_bias` says why the summary's KL is no estimate; empty where it is one, or not known.
    """

    policy: Policy
    summary: Summary
    kl_bias: str
    reward: float | None
    accuracy: float | None
    margin: float | None


def policy_figures(policies: Sequence[Policy], *, tag: str, beta: float) -> list[PolicyFigures]:
    """Return each policy's figures over held-out prompts with a tag: two queries. `beta` is policy 0's."""
    summaries, biases = stored_summaries(policies, tag=tag), kl_biases(policies)
    return [
        figures_of(policy, summary=summaries[policy.pk], kl_bias=biases[policy.pk], beta=beta)
        for policy in policies
    ]


def figures_of(policy: Policy, *, summary: Summary, kl_bias: str, beta: float) -> PolicyFigures:
    run = getattr(policy, "run", None)
    result = (run.result or {}) if run else {}
    return PolicyFigures(
        policy=policy,
        summary=summary,
        kl_bias=kl_bias if summary.kl else "",
        reward=None if summary.kl is None else beta_of(policy, default=beta) * summary.kl.value,
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
    )
