"""What the verdicts and the runs' figures say of every policy of a study; a fixed number of queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from annotate.models import Prompt, Split, Study
from training.evaluation.bradley_terry import Strengths, strengths
from training.evaluation.gate import Evidence, Gate, Thresholds, Verdict, gate_of
from training.evaluation.length_control import LengthControlled, length_controlled
from training.evaluation.outcomes import Outcome, Tally, tally_of
from training.evaluation.win_rate import WinRate, win_rate
from training.evaluation.words import with_minus
from training.models import EvaluationPlan, GateOverride, Policy, PrequentialTest
from training.selectors.evaluation_rows import Edition, Verdicts, edition_of, study_verdicts
from training.selectors.kl_biases import kl_biases
from training.selectors.policy_in_use import InUse
from training.selectors.policy_summaries import Summary, heldout_summaries
from training.selectors.run_losses import run_losses
from training.statistics import Interval, wilson_interval


@dataclass(frozen=True)
class Prequential:
    """How often the implicit reward agreed with preferences that the policy had not been trained on."""

    interval: Interval
    preferences: int
    equal: int


@dataclass(frozen=True)
class PolicyEvaluation:
    """One policy: how it is judged, how far it moved, and what the gate says of it.

    `parent` and `over_parent` are None where the parent is the reference itself; `kl_bias` says why the
    summary's KL is no estimate, and is empty where it is one, or not known.
    """

    policy: Policy
    parent: Policy | None
    over_reference: WinRate
    over_parent: WinRate | None
    length_controlled: LengthControlled
    prequential: Prequential | None
    summary: Summary
    kl_bias: str
    gate: Gate
    overrides: list[GateOverride]
    waiting: int

    @property
    def failing(self) -> list[str]:
        """Return the names of the checks that the policy fails."""
        return [check.name for check in self.gate.checks if check.verdict == Verdict.FAIL]


@dataclass(frozen=True)
class TagRate:
    tag: str
    rate: WinRate


@dataclass(frozen=True)
class StudyEvaluation:
    """Every trained policy, the oldest first, and what all of them share.

    `settled` says which policy is in use, where a round settled that.
    """

    plan: EvaluationPlan
    reference: Policy | None
    reference_summary: Summary
    rows: list[PolicyEvaluation]
    verdicts: Verdicts
    edition: Edition
    question: Question
    heldout_prompts: int
    settled: InUse

    @property
    def newest(self) -> PolicyEvaluation | None:
        return self.rows[-1] if self.rows else None

    @property
    def policies(self) -> list[Policy]:
        """Return all policies, the oldest first, the reference among them."""
        return ([self.reference] if self.reference else []) + [row.policy for row in self.rows]

    @property
    def policy_in_use(self) -> Policy | None:
        """Return the policy that the newest round settled, else the newest one; None where there is none."""
        return self.settled.policy or next(reversed(self.policies), None)

    @property
    def in_use(self) -> PolicyEvaluation | None:
        """Return the evaluation of the policy in use; None while that is the reference."""
        return self.row(self.policy_in_use.number) if self.policy_in_use else None

    @property
    def newer(self) -> list[Policy]:
        """Return the policies that came after the one in use."""
        number = self.policy_in_use.number if self.policy_in_use else 0
        return [row.policy for row in self.rows if row.policy.number > number]

    @property
    def fallback(self) -> Policy | None:
        """Return the newest policy beside the one in use that fails no check, or else the reference."""
        others = (row for row in reversed(self.rows) if row.policy != self.policy_in_use)
        return next((row.policy for row in others if not row.gate.failures), self.reference)

    @cached_property
    def tally(self) -> Tally:
        """Return all verdicts on blind pairs together, whoever met whom."""
        return tally_of(self.verdicts.outcomes)

    @cached_property
    def strengths(self) -> Strengths:
        return edition_strengths(self.edition, question=self.question)

    @property
    def identical(self) -> int:
        return self.tally.identical

    def row(self, number: int) -> PolicyEvaluation | None:
        """Return the evaluation of the policy with this number, None for the reference or an unknown one."""
        return next((row for row in self.rows if row.policy.number == number), None)


@dataclass(frozen=True)
class PolicyStatistics:
    """What the verdicts on one policy come to."""

    over_reference: WinRate
    over_parent: WinRate | None
    length_controlled: LengthControlled
    waiting: int


@dataclass(frozen=True)
class Statistics:
    """What all verdicts of a study come to, by policy id."""

    verdicts: Verdicts
    by_policy: dict[int, PolicyStatistics]


@dataclass(frozen=True)
class Question:
    """What statistics depend on beside the verdicts: who met whom, and how exact they are to be."""

    reference: int
    parents: tuple[tuple[int, int | None], ...]
    half_width: float


# By the edition of the verdicts: until a verdict comes or changes, nothing is read or computed again.
@lru_cache(maxsize=32)
def statistics(edition: Edition, *, question: Question) -> Statistics:
    """Return the statistics of an edition: two queries, or none when they are known."""
    verdicts = study_verdicts(edition)
    return Statistics(
        verdicts=verdicts,
        by_policy={
            policy: policy_statistics(
                tuple(verdicts.of(policy)),
                parent=parent,
                reference=question.reference,
                half_width=question.half_width,
            )
            for policy, parent in question.parents
        },
    )


# By what it is computed from: a verdict more recomputes the one policy that it is about.
@lru_cache(maxsize=512)
def policy_statistics(
    outcomes: tuple[Outcome, ...], *, parent: int | None, reference: int, half_width: float
) -> PolicyStatistics:
    over_reference = against(outcomes, opponent=reference)
    over_parent = against(outcomes, opponent=parent) if parent else None
    return PolicyStatistics(
        over_reference=win_rate(over_reference, half_width=half_width),
        over_parent=None if over_parent is None else win_rate(over_parent, half_width=half_width),
        length_controlled=length_controlled(over_reference),
        waiting=sum(not (row.judged or row.both_bad) for row in outcomes),
    )


@lru_cache(maxsize=32)
def edition_strengths(edition: Edition, *, question: Question) -> Strengths:
    """Return the strengths of all policies, fitted when they are asked for: not every page shows them."""
    policies = [question.reference, *(policy for policy, _ in question.parents)]
    outcomes = statistics(edition, question=question).verdicts.outcomes
    return strengths(outcomes, policies=policies, reference=question.reference)


def study_evaluation(study: Study, *, settled: InUse | None = None) -> StudyEvaluation:
    """Return the evaluation of all policies, in a fixed number of queries.

    `settled` is what the newest round settled of the policy in use; without it the newest policy is in use.
    """
    policies = list(study.policies.select_related("parent", "run__round").order_by("number"))
    reference = next((policy for policy in policies if policy.number == 0), None)
    trained = [policy for policy in policies if policy.number]
    plan = EvaluationPlan.objects.filter(study=study).first() or EvaluationPlan(study=study)
    question = Question(
        reference=reference.pk if reference else 0,
        parents=tuple((policy.pk, other_parent(policy, reference=reference)) for policy in trained),
        half_width=plan.half_width,
    )
    edition = edition_of(study)
    found = statistics(edition, question=question)
    shared = Shared(
        plan=plan,
        reference=reference,
        statistics=found,
        summaries=heldout_summaries(policies),
        kl_biases=kl_biases(trained),
        prequential=prequential_by_policy(trained),
        overrides=list(GateOverride.objects.filter(policy__study=study).select_related("actor")),
    )
    return StudyEvaluation(
        plan=plan,
        reference=reference,
        reference_summary=shared.summaries.get(reference.pk, Summary()) if reference else Summary(),
        rows=[policy_evaluation(policy, shared=shared) for policy in trained],
        verdicts=found.verdicts,
        edition=edition,
        question=question,
        heldout_prompts=Prompt.objects.filter(study=study, split=Split.HELDOUT).count(),
        settled=settled or InUse(),
    )


def other_parent(policy: Policy, *, reference: Policy | None) -> int | None:
    """Return the id of the policy's parent where that is not the reference itself."""
    is_reference = reference is not None and policy.parent_id == reference.pk
    return None if is_reference else policy.parent_id


@dataclass(frozen=True)
class Shared:
    """What the rows of all policies are made from."""

    plan: EvaluationPlan
    reference: Policy | None
    statistics: Statistics
    summaries: dict[int, Summary]
    kl_biases: dict[int, str]
    prequential: dict[int, Prequential]
    overrides: list[GateOverride]


def policy_evaluation(policy: Policy, *, shared: Shared) -> PolicyEvaluation:
    judged = shared.statistics.by_policy[policy.pk]
    summary = shared.summaries.get(policy.pk, Summary())
    parent = policy.parent if other_parent(policy, reference=shared.reference) else None
    evidence = Evidence(
        over_reference=judged.over_reference,
        over_parent=judged.over_parent,
        parent=parent.label if parent else "",
        length_controlled=judged.length_controlled,
        **figures_of_run(policy),
        **figures_of_responses(policy, shared=shared),
    )
    return PolicyEvaluation(
        policy=policy,
        parent=parent,
        over_reference=judged.over_reference,
        over_parent=judged.over_parent,
        length_controlled=judged.length_controlled,
        prequential=shared.prequential.get(policy.pk),
        summary=summary,
        kl_bias=shared.kl_biases[policy.pk] if summary.kl else "",
        gate=gate_of(evidence, thresholds=thresholds_of(shared.plan)),
        overrides=[row for row in shared.overrides if row.policy_id == policy.pk],
        waiting=judged.waiting,
    )


def against(outcomes: Sequence[Outcome], *, opponent: int | None) -> list[Outcome]:
    return [row for row in outcomes if row.opponent == opponent]


def figures_of_run(policy: Policy) -> dict[str, Any]:
    """Return what result.json of the policy's run says, under the names of `Evidence`."""
    run = getattr(policy, "run", None)
    result = (run.result if run else None) or {}
    losses = run_losses(result)
    return {
        "chosen_log_ratio": result.get("log_ratio_per_token_chosen"),
        "loss_first": losses.first,
        "loss_last": losses.last,
        "loss_steps": result.get("loss_steps"),
        "steps": result.get("steps"),
        "warnings": tuple(sentence_of(warning) for warning in result.get("warnings", ())),
    }


def sentence_of(warning: str) -> str:
    """Return a trainer's remark as a sentence that stands by itself."""
    return with_minus(f"The trainer warns of {warning.rstrip('.')}.")


def figures_of_responses(policy: Policy, *, shared: Shared) -> dict[str, Any]:
    own = shared.summaries.get(policy.pk, Summary())
    reference = shared.summaries.get(shared.reference.pk, Summary()) if shared.reference else Summary()
    return {
        "tokens": own.tokens,
        "reference_tokens": reference.tokens,
        "cut": own.cut.value if own.cut else None,
        "reference_cut": reference.cut.value if reference.cut else None,
        "kl": own.kl.value if own.kl else None,
        "kl_bias": shared.kl_biases[policy.pk],
        "kl_per_token": own.kl_per_token,
    }


def gate_failures(policy: Policy) -> tuple[str, ...]:
    """Return the sentences of the checks that the policy fails; the reference has nothing to pass."""
    row = study_evaluation(policy.study).row(policy.number) if policy.number else None
    return row.gate.failures if row else ()


def thresholds_of(plan: EvaluationPlan) -> Thresholds:
    return Thresholds(
        win_rate_over_reference=plan.win_rate_over_reference,
        win_rate_over_parent=plan.win_rate_over_parent,
        length_growth=plan.length_growth,
        kl=plan.kl,
        displacement=plan.displacement,
        cut_share=plan.cut_share,
    )


def prequential_by_policy(policies: Sequence[Policy]) -> dict[int, Prequential]:
    """Return by policy how it did on the labels of the first round that sampled it: one query."""
    tests = PrequentialTest.objects.filter(policy__in=policies, preferences__gt=0).order_by("-run")
    return {test.policy_id: prequential_of(test) for test in tests}


def prequential_of(test: PrequentialTest) -> Prequential:
    agreed = test.agreed + test.equal / 2
    return Prequential(
        interval=wilson_interval(wins=agreed, trials=test.preferences),
        preferences=test.preferences,
        equal=test.equal,
    )


def rates_by_tag(study: Study, *, row: PolicyEvaluation, shared: StudyEvaluation) -> list[TagRate]:
    """Return the win rate over the reference on the prompts of each tag, most judged first: one query."""
    tags = dict(Prompt.objects.filter(study=study, split=Split.HELDOUT).values_list("pk", "tags"))
    reference = shared.reference.pk if shared.reference else None
    outcomes = against(shared.verdicts.of(row.policy.pk), opponent=reference)
    names = {tag for outcome in outcomes for tag in tags.get(outcome.prompt, ())}
    rates = [
        TagRate(
            name,
            win_rate(
                [outcome for outcome in outcomes if name in tags.get(outcome.prompt, ())],
                half_width=shared.plan.half_width,
            ),
        )
        for name in names
    ]
    return sorted(rates, key=lambda item: (-item.rate.tally.prompts, item.tag))
