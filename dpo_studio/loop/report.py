"""What the unattended loop learned: one row per policy, from the database."""

import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from annotate.models import Study, Verdict
from annotate.rules import rule_named
from training.models import Policy, SampledResponse
from training.statistics import Interval, win_interval

# Held-out responses by policy number and prompt id.
Heldout = dict[int, dict[int, list[SampledResponse]]]
OUTCOME = {Verdict.A: 1.0, Verdict.TIE: 0.5, Verdict.B: 0.0}


@dataclass(frozen=True)
class PolicyRow:
    """One policy; what only training and another policy give is empty for the SFT reference."""

    policy: int
    round: int | None
    beta: float | None
    learning_rate: float | None
    parent: int | None
    pairs: int | None
    accuracy: float | None
    margin: float | None
    mean_tokens: float
    mean_words: float
    preferred_to_reference: Interval | None
    preferred_to_parent: Interval | None


@dataclass(frozen=True)
class LoopReport:
    study: str
    rule: str
    simulated: bool
    samples_per_prompt: int
    seconds: float
    policies: list[PolicyRow]


def build_report(*, study: Study, rule: str, seconds: float) -> LoopReport:
    """Compare every policy's held-out responses with the SFT reference's and its parent's by `rule`."""
    policies = list(
        Policy.objects.filter(study=study).select_related("run__round", "parent").order_by("number")
    )
    sampled = {policy.number: heldout_responses(policy) for policy in policies}
    return LoopReport(
        study=study.name,
        rule=rule,
        simulated=True,
        samples_per_prompt=study.recipe.heldout_samples,
        seconds=round(seconds, 1),
        policies=[policy_row(policy, sampled=sampled, rule=rule) for policy in policies],
    )


def heldout_responses(policy: Policy) -> dict[int, list[SampledResponse]]:
    """Return the policy's held-out responses by prompt id."""
    by_prompt: dict[int, list[SampledResponse]] = defaultdict(list)
    rows = SampledResponse.objects.filter(policy=policy, round=None).select_related("response")
    for row in rows.order_by("prompt_id", "slot"):
        by_prompt[row.prompt_id].append(row)
    return dict(by_prompt)


def policy_row(policy: Policy, *, sampled: Heldout, rule: str) -> PolicyRow:
    own = sampled[policy.number]
    rows = [row for responses in own.values() for row in responses]
    run = policy.run if policy.number else None
    result = (run.result if run else None) or {}
    parent = policy.parent.number if policy.parent else None
    return PolicyRow(
        policy=policy.number,
        round=run.round.number if run else None,
        beta=run.config["loss"].get("beta") if run else None,
        learning_rate=run.config["optimizer"]["learning_rate"] if run else None,
        parent=parent,
        pairs=result.get("used"),
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
        mean_tokens=statistics.fmean(row.token_count for row in rows),
        mean_words=statistics.fmean(len(row.response.text.split()) for row in rows),
        preferred_to_reference=win_over(own=own, other=sampled[0], rule=rule) if run else None,
        preferred_to_parent=win_over(own=own, other=sampled[parent], rule=rule)
        if parent is not None
        else None,
    )


def win_over(
    *, own: dict[int, list[SampledResponse]], other: dict[int, list[SampledResponse]], rule: str
) -> Interval:
    """Return how often the rule prefers a policy's response, every sample against every other sample."""
    prefers = rule_named(rule)
    return win_interval(
        [
            [
                OUTCOME[prefers(mine.response.text, theirs.response.text)]
                for mine in own[prompt]
                for theirs in others
            ]
            for prompt, others in other.items()
            if prompt in own
        ]
    )


def print_report(report: LoopReport, *, output: Path) -> None:
    print(f"\nStudy {report.study}: every label simulated by the rule “{report.rule}”;", end=" ")
    print(f"{report.seconds / 60:.1f} minutes")
    print("  policy  round   β      lr  pairs  accuracy   margin  tokens  words", end="  ")
    print(f"{'rule prefers it to SFT':<24}  to its parent")
    for row in report.policies:
        settings = f"{figure(row.round, '6d')} {figure(row.beta, '5.2g')} {figure(row.learning_rate, '7.0e')}"
        trained = f"{figure(row.pairs, '6d')} {figure(row.accuracy, '9.3f')} {figure(row.margin, '8.3f')}"
        sampled = f"{row.mean_tokens:7.1f} {row.mean_words:6.1f}"
        wins = f"{share(row.preferred_to_reference):<24}  {share(row.preferred_to_parent)}"
        print(f"{row.policy:>8} {settings} {trained} {sampled}  {wins}")
    known = next((row.preferred_to_reference for row in report.policies if row.preferred_to_reference), None)
    if known is not None:
        print(f"shares with ties at half; 95 % intervals: {known.method}, {known.prompts} held-out prompts")
    print(f"written to {output}")


def figure(value: float | int | None, form: str) -> str:
    width = int(form.split(".")[0].rstrip("def"))
    return f"{value:{form}}" if value is not None else "–".rjust(width)


def share(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.share:.3f} [{interval.low:.3f}, {interval.high:.3f}]"
