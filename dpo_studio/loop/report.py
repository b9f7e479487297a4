"""What the unattended loop learned: one row per policy, from the database."""

import statistics
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

from annotate.models import Study, Verdict
from annotate.rules import rule_named
from training.models import Policy, SampledResponse
from training.statistics import Interval, win_interval

OUTCOME = {Verdict.A: 1.0, Verdict.TIE: 0.5, Verdict.B: 0.0}


@dataclass(frozen=True)
class PolicyRow:
    """One policy; training figures are empty for the SFT reference, and so is its win over itself."""

    policy: int
    pairs: int | None
    accuracy: float | None
    margin: float | None
    mean_tokens: float
    mean_words: float
    preferred_to_reference: Interval | None


@dataclass(frozen=True)
class LoopReport:
    study: str
    rule: str
    simulated: bool
    samples_per_prompt: int
    seconds: float
    policies: list[PolicyRow]


def build_report(*, study: Study, rule: str, seconds: float) -> LoopReport:
    """Compare every policy's held-out responses with the SFT reference's by `rule`."""
    policies = list(Policy.objects.filter(study=study).select_related("run").order_by("number"))
    sampled = {policy.number: heldout_responses(policy) for policy in policies}
    return LoopReport(
        study=study.name,
        rule=rule,
        simulated=True,
        samples_per_prompt=study.recipe.heldout_samples,
        seconds=round(seconds, 1),
        policies=[
            policy_row(policy, own=sampled[policy.number], reference=sampled[0], rule=rule)
            for policy in policies
        ],
    )


def heldout_responses(policy: Policy) -> dict[int, list[SampledResponse]]:
    """Return the policy's held-out responses by prompt id."""
    by_prompt: dict[int, list[SampledResponse]] = defaultdict(list)
    rows = SampledResponse.objects.filter(policy=policy, round=None).select_related("response")
    for row in rows.order_by("prompt_id", "slot"):
        by_prompt[row.prompt_id].append(row)
    return dict(by_prompt)


def policy_row(
    policy: Policy,
    *,
    own: dict[int, list[SampledResponse]],
    reference: dict[int, list[SampledResponse]],
    rule: str,
) -> PolicyRow:
    rows = [row for responses in own.values() for row in responses]
    result = (policy.run.result if policy.number else None) or {}
    return PolicyRow(
        policy=policy.number,
        pairs=result.get("used"),
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
        mean_tokens=statistics.fmean(row.token_count for row in rows),
        mean_words=statistics.fmean(len(row.response.text.split()) for row in rows),
        preferred_to_reference=win_over(own=own, reference=reference, rule=rule) if policy.number else None,
    )


def win_over(
    *, own: dict[int, list[SampledResponse]], reference: dict[int, list[SampledResponse]], rule: str
) -> Interval:
    """Return how often the rule prefers a policy's response, every sample against every reference sample."""
    prefers = rule_named(rule)
    return win_interval(
        [
            [
                OUTCOME[prefers(mine.response.text, theirs.response.text)]
                for mine in own[prompt]
                for theirs in others
            ]
            for prompt, others in reference.items()
            if prompt in own
        ]
    )


def print_report(report: LoopReport, *, output: Path) -> None:
    print(f"\nStudy {report.study}: every label simulated by the rule “{report.rule}”;", end=" ")
    print(f"{report.seconds / 60:.1f} minutes")
    print("  policy  pairs  accuracy   margin  tokens  words  rule prefers it to SFT")
    for row in report.policies:
        trained = f"{figure(row.pairs, '6d')} {figure(row.accuracy, '9.3f')} {figure(row.margin, '8.3f')}"
        sampled = f"{row.mean_tokens:7.1f} {row.mean_words:6.1f}"
        print(f"{row.policy:>8} {trained} {sampled}  {share(row.preferred_to_reference)}")
    print(f"written to {output}")


def figure(value: float | int | None, form: str) -> str:
    width = int(form.split(".")[0].rstrip("df"))
    return f"{value:{form}}" if value is not None else "–".rjust(width)


def share(interval: Interval | None) -> str:
    if interval is None:
        return "–"
    fields = asdict(interval)
    return "{share:.3f}  [{low:.3f}, {high:.3f}] (95 %, {method}, {prompts} prompts)".format(**fields)
