"""One policy: where it comes from, what it was trained on, what it says, and how to take it away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from django.conf import settings
from django.http import Http404

from annotate.models import Study
from training.evaluation.lineage import Lineage, lineage_of
from training.models import Job, Policy, Round, Run
from training.selectors.evaluation import PolicyEvaluation, StudyEvaluation, study_evaluation
from training.selectors.job_rows import JobRow, job_rows
from training.selectors.runs import Setting, flat_settings, receipt_lines
from training.serving.command import MAX_LORA_RANK


@dataclass(frozen=True)
class TrainedOn:
    """One step of the lineage: the run that made a policy, and how many preferences it had."""

    policy: Policy
    run: Run
    used: int
    from_own_round: int


@dataclass(frozen=True)
class PolicyPage:
    """All that the page of a policy shows; the reference has neither run nor evaluation."""

    policy: Policy
    run: Run | None
    evaluation: StudyEvaluation
    row: PolicyEvaluation | None
    lineage: Lineage
    children: list[Policy]
    steps: list[TrainedOn]
    receipt: list[Setting]
    settings: list[Setting]
    versions: list[Setting]
    sampled_rounds: list[Round]
    merge: JobRow | None
    serve_command: str
    next_round: int | None
    at_work: Round | None

    @property
    def is_reference(self) -> bool:
        return self.policy.number == 0

    @property
    def needs_reason(self) -> bool:
        return self.row is not None and bool(self.row.gate.failures)


def policy_page(study: Study, *, number: int) -> PolicyPage:
    """Return the page of the study's policy of this number, in a fixed number of queries. Raises Http404."""
    found = study_evaluation(study)
    everyone = ([found.reference] if found.reference else []) + [row.policy for row in found.rows]
    policies = {policy.pk: policy for policy in everyone}
    policy = next((policy for policy in everyone if policy.number == number), None)
    if policy is None:
        raise Http404(f"{study.name} has no policy {number}")
    chain = ancestors(policy, policies=policies)
    rounds = list(study.rounds.order_by("number"))
    at_work = next((item for item in rounds if item.state in AT_WORK), None)
    run = run_of(policy)
    return PolicyPage(
        policy=policy,
        run=run,
        evaluation=found,
        row=found.row(number),
        lineage=lineage_of([(item.number, item.label, lineage_note(item)) for item in chain]),
        children=[item for item in everyone if item.parent_id == policy.pk],
        steps=[step for item in reversed(chain) if (step := trained_on(item)) is not None],
        receipt=receipt_lines(run.receipt) if run else [],
        settings=flat_settings(run.config) if run else [],
        versions=flat_settings((run.result or {}).get("versions", {})) if run else [],
        sampled_rounds=[item for item in rounds if item.sampled_policy_id == policy.pk],
        merge=merge_job(study, policy=policy),
        serve_command=serve_command(policy, base_model=study.recipe.base_model, run=run),
        next_round=None if at_work else (rounds[-1].number + 1 if rounds else 1),
        at_work=at_work,
    )


AT_WORK = (Round.State.COLLECTING, Round.State.TRAINING)


def ancestors(policy: Policy, *, policies: dict[int, Policy]) -> list[Policy]:
    """Return the policies from the reference to this one."""
    chain = [policy]
    while (parent := policies.get(chain[-1].parent_id or 0)) is not None and parent not in chain:
        chain.append(parent)
    return list(reversed(chain))


def run_of(policy: Policy) -> Run | None:
    return getattr(policy, "run", None)


def lineage_note(policy: Policy) -> str:
    run = run_of(policy)
    if run is None:
        return "no adapter" if policy.number == 0 else ""
    used = (run.result or {}).get("used", run.receipt.get("usable", 0))
    return f"round {run.round.number} · {used} preferences"


def trained_on(policy: Policy) -> TrainedOn | None:
    run = run_of(policy)
    if run is None:
        return None
    rounds: dict[str, Any] = run.receipt.get("rounds", {})
    return TrainedOn(
        policy=policy,
        run=run,
        used=run.receipt.get("usable", 0),
        from_own_round=rounds.get(str(run.round.number), {}).get("usable", 0),
    )


def merge_job(study: Study, *, policy: Policy) -> JobRow | None:
    rows = [row for row in job_rows(study) if row.policy_id == policy.pk and row.kind == Job.Kind.MERGE]
    return rows[-1] if rows else None


def serve_command(policy: Policy, *, base_model: str, run: Run | None) -> str:
    """Return the shell command that serves the base with this policy's adapter in vLLM."""
    base = ["vllm", "serve", base_model, "--dtype", "bfloat16"]
    if not policy.adapter_path:
        return " ".join(map(quote, base))
    rank = (run.config.get("lora", {}) if run else {}).get("r", MAX_LORA_RANK)
    adapter = Path(settings.STUDIO_HOME) / policy.adapter_path
    return " ".join(
        [
            *map(quote, base),
            *("--enable-lora", "--max-lora-rank", str(served_rank(rank))),
            *("--lora-modules", quote(f"{policy.served_name}={adapter}")),
        ]
    )


def served_rank(rank: int) -> int:
    """Return the smallest maximum rank that vLLM accepts and that holds the adapter."""
    return next(allowed for allowed in VLLM_RANKS if allowed >= rank or allowed == VLLM_RANKS[-1])


VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
