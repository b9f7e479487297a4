"""What pages show of rounds and of their labels, for all rounds of a study in a fixed number of queries."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db.models import Count, Q, Sum

from annotate.models import Pair, Preference, Study, Verdict
from training.models import Policy, Round, Run
from training.selectors.job_rows import JobRow


@dataclass(frozen=True)
class VerdictShare:
    """One verdict's part of the bar: `start` and `width` in per cent."""

    name: str
    label: str
    share: float
    start: float

    @property
    def width(self) -> float:
        return 100 * self.share


@dataclass(frozen=True)
class LabelCounts:
    """Training pairs and the verdicts on them, in whatever rounds were asked for."""

    pairs: int = 0
    labels_wanted: int = 0
    a: int = 0
    b: int = 0
    tie: int = 0
    both_bad: int = 0
    simulated: int = 0

    @property
    def labels(self) -> int:
        return self.a + self.b + self.tie + self.both_bad

    @property
    def decisive(self) -> int:
        """Verdicts that name a better response: what DPO can learn from."""
        return self.a + self.b

    @property
    def labels_open(self) -> int:
        return max(0, self.labels_wanted - self.labels)

    @property
    def shares(self) -> list[VerdictShare]:
        """Return the verdicts that occur, as adjoining parts of one bar; nothing without labels."""
        counts = {verdict: getattr(self, verdict.value) for verdict in Verdict}
        shares: list[VerdictShare] = []
        start = 0.0
        for verdict, count in counts.items():
            if count:
                label = verdict.label.removesuffix(" is better")
                shares.append(VerdictShare(verdict.value, label, count / self.labels, start))
                start += shares[-1].width
        return shares

    def __add__(self, other: "LabelCounts") -> "LabelCounts":
        return LabelCounts(
            **{name: getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__}
        )


@dataclass(frozen=True)
class RunRow:
    """One run as a line of a list: where it stands and what it reached."""

    run: Run
    job: JobRow | None
    accuracy: float | None
    margin: float | None

    @property
    def policy(self) -> Policy | None:
        return self.run.policy


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
    """Return the study's rounds, newest first, or only the one of this number: in four queries."""
    rounds = study.rounds.select_related("sampled_policy", "chosen_policy").order_by("-number")
    chosen = list(rounds if number is None else rounds.filter(number=number))
    labels = label_counts_by_batch(study, number=number)
    runs: dict[int, list[RunRow]] = defaultdict(list)
    for run in Run.objects.filter(round__in=chosen).select_related("policy").order_by("number"):
        runs[run.round_id].append(run_row(run, jobs=jobs))
    return [round_row(item, labels=labels, runs=runs[item.pk], jobs=jobs) for item in chosen]


def round_row(
    item: Round, *, labels: dict[int, LabelCounts], runs: list[RunRow], jobs: Iterable[JobRow]
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
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
    )


def label_counts_by_batch(study: Study, *, number: int | None = None) -> dict[int, LabelCounts]:
    """Return the counts per round number (a pair's batch), of training pairs that were not withdrawn."""
    pairs = Pair.objects.filter(study=study, purpose=Pair.Purpose.TRAIN).exclude(state=Pair.State.WITHDRAWN)
    if number is not None:
        pairs = pairs.filter(batch=number)
    totals = pairs.order_by().values("batch").annotate(pairs=Count("pk"), wanted=Sum("labels_wanted"))
    verdicts = (
        Preference.objects.filter(pair__in=pairs)
        .values("pair__batch")
        .annotate(
            **{verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict},
            simulated=Count("pk", filter=~Q(simulated_rule="")),
        )
    )
    by_batch: dict[int, dict[str, Any]] = {row["pair__batch"]: {**row} for row in verdicts}
    return {row["batch"]: counts_of(row, verdicts=by_batch.get(row["batch"], {})) for row in totals}


def counts_of(pairs: Mapping[str, Any], *, verdicts: Mapping[str, Any]) -> LabelCounts:
    return LabelCounts(
        pairs=pairs["pairs"],
        labels_wanted=pairs["wanted"] or 0,
        simulated=verdicts.get("simulated", 0),
        **{verdict.value: verdicts.get(verdict.value, 0) for verdict in Verdict},
    )
