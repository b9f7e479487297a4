"""The runs of one round side by side: what differs, what each came to, and their curves in one picture."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.core.run.config import LOSS_KEYS
from training.evaluation.gate import Verdict
from training.models import Job, Policy, Round, Run
from training.selectors.evaluation import PolicyEvaluation, StudyEvaluation
from training.selectors.metrics import METRICS_FILE, curves_of, parsed, run_directory
from training.selectors.round_choice import Choice, choice_of
from training.selectors.rounds import RoundRow, RunRow
from training.services.further_runs import round_fault
from training.templatetags.figures import compact

# Enough points for a picture; a run of 5,000 steps is not sent in full once per run.
MOST_POINTS = 300
NAMES = {
    "loss.name": "loss",
    "loss.beta": "β",
    "loss.label_smoothing": "ε",
    "loss.gamma": "γ",
    "loss.lambda": "λ",
    "loss.nu": "ν",
    "loss.nll_alpha": "α of NLL",
    "optimizer.learning_rate": "learning rate",
    "optimizer.epochs": "epochs",
    "optimizer.pairs_per_step": "pairs per step",
    "max_length": "longest sequence",
    "dtype": "precision",
    "seed": "seed",
}


@dataclass(frozen=True)
class RunComparison:
    """A run as a line of the table; `differs` says what it has that the first run has not.

    `judged` is what verdicts and scores say of its policy.
    """

    row: RunRow
    place: int
    differs: str
    is_chosen: bool
    judged: PolicyEvaluation | None

    @property
    def run(self) -> Run:
        return self.row.run

    @property
    def policy(self) -> Policy | None:
        return self.row.policy


@dataclass(frozen=True)
class PolicyOption:
    """A policy that the next round may sample; `row` says what its gate says, None for the reference."""

    policy: Policy
    row: PolicyEvaluation | None

    @property
    def fails(self) -> bool:
        return self.row is not None and bool(self.row.gate.failures)

    @property
    def passes(self) -> bool:
        return self.row is not None and self.row.gate.verdict == Verdict.PASS

    @property
    def gate(self) -> str:
        """Return the state of its gate."""
        if self.row is None:
            return "needs no gate"
        if self.fails:
            return f"fails its gate ({len(self.row.failing)} of {len(self.row.gate.checks)} checks)"
        return "passes its gate" if self.passes else "gate not known yet"


@dataclass(frozen=True)
class RoundRuns:
    """What the round page shows of its runs, and what may be done with them.

    `proposed` is the option to begin with: what was chosen, else what would be sampled; none where that fails
    its gate, or where several might be meant.
    """

    runs: list[RunComparison]
    options: list[PolicyOption]
    chosen: Policy | None
    proposed: Policy | None
    next_sampled: PolicyOption | None
    choice: Choice | None
    can_choose: bool
    can_add: bool
    can_close: bool
    needs_choice: bool
    open_pairs: int
    next_number: int

    @property
    def has_policies(self) -> bool:
        return any(item.policy for item in self.runs)

    @property
    def is_comparison(self) -> bool:
        return len(self.runs) > 1

    @property
    def can_sweep(self) -> bool:
        return self.can_add and bool(self.runs)


def round_runs(row: RoundRow, *, evaluation: StudyEvaluation, is_newest: bool) -> RoundRuns:
    """Return the comparison of a round's runs: one query, another once the next round's policy is settled."""
    item = row.round
    ended = item.state in (Round.State.TRAINED, Round.State.CLOSED)
    comparisons = [
        compared(run, place=place, item=item, first=row.runs[0].run, evaluation=evaluation)
        for place, run in enumerate(row.runs)
    ]
    under_way = any(run.job and run.job.is_active for run in row.runs)
    may_end = is_newest and not under_way
    made = {run.policy.pk for run in row.runs if run.policy}
    options = [
        PolicyOption(policy, evaluation.row(policy.number)) for policy in reversed(evaluation.policies)
    ]
    return RoundRuns(
        runs=comparisons,
        options=options if may_end else [],
        chosen=item.chosen_policy,
        proposed=item.chosen_policy or proposed_of(options, made=made),
        next_sampled=next((option for option in options if option.policy == evaluation.policy_in_use), None),
        choice=choice_of(item),
        can_choose=may_end and ended,
        can_add=not round_fault(item),
        can_close=may_end and not ended,
        needs_choice=is_newest and item.chosen_policy is None and len(made) > 1,
        open_pairs=row.labels.labels_open,
        next_number=item.number + 1,
    )


def proposed_of(options: Sequence[PolicyOption], *, made: Collection[int]) -> Policy | None:
    """Return the one to begin with while nothing is chosen; `made` are the ids of the round's policies.

    Of several the only one that passes its gate; of one that one, unless it fails its gate.
    """
    own = [option for option in options if option.policy.pk in made] or list(options[:1])
    if len(own) > 1:
        passing = [option.policy for option in own if option.passes]
        return passing[0] if len(passing) == 1 else None
    return next((option.policy for option in own if not option.fails), None)


def compared(
    row: RunRow, *, place: int, item: Round, first: Run, evaluation: StudyEvaluation
) -> RunComparison:
    judged = evaluation.row(row.policy.number) if row.policy else None
    return RunComparison(
        row=row,
        place=place,
        differs=difference(row.run, first=first),
        is_chosen=row.policy is not None and row.policy.pk == item.chosen_policy_id,
        judged=judged,
    )


def difference(run: Run, *, first: Run) -> str:
    """Return in words what a run's settings have that the first run's have not."""
    if run == first:
        return settings_in_short(run.config)
    mine, theirs = named_settings(run.config), named_settings(first.config)
    words = [f"{name} {shown(value)}" for name, value in mine.items() if theirs.get(name) != value]
    start, other = (bool(one.config.get("parent_adapter")) for one in (run, first))
    if start != other:
        words.append("goes on with the sampled adapter" if start else "from the SFT reference")
    if run.dataset_sha256 != first.dataset_sha256:
        words.append("another training set")
    return ", ".join(words) or "the same settings"


def settings_in_short(config: Mapping[str, Any]) -> str:
    named = named_settings(config)
    return ", ".join(
        f"{name} {shown(named[name])}" for name in ("loss", "β", "learning rate", "epochs") if name in named
    )


def named_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what people vary, by name; what the loss does not use is left out."""
    found: dict[str, Any] = {}
    used = ("name", *LOSS_KEYS.get(config.get("loss", {}).get("name", ""), ()))
    for path, name in NAMES.items():
        section, _, key = path.rpartition(".")
        values = config.get(section, {}) if section else config
        if values.get(key) is not None and (section != "loss" or key in used):
            found[name] = values[key]
    return found


def shown(value: Any) -> str:
    return compact(value) if isinstance(value, float) else str(value)


def overlaid_curves(item: Round) -> list[dict[str, Any]]:
    """Return each run's curves, thinned to `MOST_POINTS` steps: one query, one file a run."""
    runs = item.runs.select_related("job").order_by("number")
    return [curves_of_run(run, place=place) for place, run in enumerate(runs)]


def curves_of_run(run: Run, *, place: int) -> dict[str, Any]:
    job: Job | None = getattr(run, "job", None)
    curves = curves_of(thinned_rows(run))
    return {
        "number": run.number,
        "place": place,
        "active": bool(job and job.is_active),
        "steps": curves.steps,
        "series": curves.series,
    }


def thinned_rows(run: Run) -> list[dict[str, Any]]:
    """Return evenly spaced lines of metrics.jsonl, the first and the last among them; parses no others."""
    try:
        text = (run_directory(run) / METRICS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    lines = [line for line in text.splitlines() if '"eval_loss"' not in line]
    stride = max(1, -(-len(lines) // MOST_POINTS))
    wanted = [*lines[:-1:stride], *lines[-1:]]
    rows = {row["step"]: row for line in wanted if (row := parsed(line)) is not None}
    return [rows[step] for step in sorted(rows)]
