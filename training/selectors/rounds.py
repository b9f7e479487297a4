"""What pages show of rounds and of their labels, for all rounds of a study in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from annotate.models import Study
from training.models import Policy, Round, Run
from training.selectors.job_rows import JobRow
from training.selectors.label_counts import LabelCounts, counted_labels
from training.selectors.run_losses import RunLosses, run_losses


@dataclass(frozen=True)
class RunRow:
    """One run as a line of a list: where it stands and what it reached.

    Accuracy and margin are known after the last look at its examples, which follows when its policy is there.
    """

    run: Run
    job: JobRow | None
    last_look: JobRow | None
    accuracy: float | None
    margin: float | None

    @property
    def policy(self) -> Policy | None:
        return self.run.policy

    @property
    def losses(self) -> RunLosses:
        return run_losses(self.run.result)

    @property
    def open_job(self) -> JobRow | None:
        """Return the last look while there is something to wait for or to do about it, else the run's job."""
        look = self.last_look
        return look if look is not None and not look.is_done else self.job


@dataclass(frozen=True)
class RoundRow:
    """One round as a line of a list."""

    round: Round
    labels: LabelCounts
    sampling: JobRow | None
    runs: list[RunRow] = field(default_factory=list)
    policy_jobs: list[JobRow] = field(default_factory=list)

    @property
    def newest_run(self) -> RunRow | None:
        return self.runs[-1] if self.runs else None

    @property
    def policy(self) -> Policy | None:
        """Return the policy that came of the round: the chosen one of its runs, else the newest."""
        made = [row.policy for row in self.runs if row.policy]
        chosen = [policy for policy in made if policy.pk == self.round.chosen_policy_id]
        return next(iter(chosen or made[-1:]), None)

    @property
    def policy_run(self) -> RunRow | None:
        """Return the run that made the round's policy; the newest one before there is a policy."""
        made = (row for row in self.runs if self.policy and row.policy == self.policy)
        return next(made, self.newest_run)

    @property
    def shown_run(self) -> RunRow | None:
        """Return the run to look at: the newest while it is under way, else that of the chosen policy."""
        newest = self.newest_run
        is_at_work = newest is not None and newest.job is not None and newest.job.is_active
        has_choice = any(row.policy and row.policy.pk == self.round.chosen_policy_id for row in self.runs)
        return self.policy_run if has_choice and not is_at_work else newest

    @property
    def state_label(self) -> str:
        """Return the state as people say it, with what went wrong in it."""
        job = self.newest_run.job if self.newest_run else None
        if self.round.state == Round.State.TRAINING and job and job.can_retry:
            return f"Training {job.state_label.lower()}"
        return self.round.get_state_display()

    @property
    def tone(self) -> str:
        """Return the badge's class."""
        job = self.newest_run.job if self.newest_run else None
        if self.round.state == Round.State.TRAINING and job and job.can_retry:
            return "badge-bad" if job.is_failed else "badge-warn"
        tones = {"collecting": "badge-live", "training": "badge-live", "trained": "badge-good"}
        return tones.get(self.round.state, "")

    @property
    def jobs(self) -> list[JobRow]:
        """Every job of this round in the order the loop starts them."""
        first = [self.sampling] if self.sampling else []
        return first + [row.job for row in self.runs if row.job] + self.policy_jobs


def round_rows(study: Study, *, jobs: list[JobRow], number: int | None = None) -> list[RoundRow]:
    """Return the study's rounds, newest first, or only the one of this number: in seven queries."""
    rounds = study.rounds.select_related("sampled_policy", "chosen_policy").order_by("-number")
    chosen = list(rounds if number is None else rounds.filter(number=number))
    labels = counted_labels(study, rounds=chosen)
    runs: dict[int, list[RunRow]] = defaultdict(list)
    for run in Run.objects.filter(round__in=chosen).select_related("policy").order_by("number"):
        runs[run.round_id].append(run_row(run, jobs=jobs))
    return [round_row(item, labels=labels, runs=runs[item.pk], jobs=jobs) for item in chosen]


def round_row(
    item: Round, *, labels: Mapping[int, LabelCounts], runs: list[RunRow], jobs: Iterable[JobRow]
) -> RoundRow:
    policies = {row.policy.pk for row in runs if row.policy}
    if item.sampled_policy.number == 0:  # no run made it, so the first round shows what becomes of it
        policies.add(item.sampled_policy_id)
    return RoundRow(
        round=item,
        labels=labels.get(item.number, LabelCounts()),
        sampling=next((job for job in jobs if job.is_sampling and job.round_id == item.pk), None),
        runs=runs,
        policy_jobs=[job for job in jobs if job.policy_id in policies and not job.is_run],
    )


def run_row(run: Run, *, jobs: Iterable[JobRow]) -> RunRow:
    result = run.result or {}
    return RunRow(
        run=run,
        job=next((job for job in jobs if job.run_id == run.pk), None),
        last_look=next((job for job in jobs if job.is_last_look and job.policy_id == run.policy_id), None),
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
    )
