"""The study home: where the loop stands, what to do next, who has labelled what."""

from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db.models import Count

from annotate.models import Prompt, Split, Study
from annotate.selectors.quality import BatchQuality, batch_quality
from training.models import Job, Policy, Recipe, Round
from training.policy_chart import Chart
from training.selectors.engine import EngineOverview, engine_overview
from training.selectors.evaluation import PolicyEvaluation, StudyEvaluation, study_evaluation
from training.selectors.evaluation_headline import basis_of, headline_of
from training.selectors.evaluation_page import win_rate_chart
from training.selectors.job_rows import JobRow, in_a_sentence, job_rows
from training.selectors.label_counts import LabelCounts
from training.selectors.loop_strip import Judged, LoopStep, NextAction, loop_steps, next_action
from training.selectors.people import PersonRow, people
from training.selectors.policy_in_use import settled_by
from training.selectors.readiness import Readiness, round_readiness
from training.selectors.review_queues import ReviewQueue, review_queues
from training.selectors.rounds import RoundRow, RunRow, round_rows
from training.selectors.run_glance import RunGlance, run_glance

FINISHED_JOBS_SHOWN = 4
PANEL_ORDER: dict[str, int] = {
    Job.State.RUNNING: 0,
    Job.State.QUEUED: 1,
    Job.State.FAILED: 2,
    Job.State.CANCELLED: 3,
}
SECONDS_BETWEEN_LABELS = 10
ROUNDS_SHOWN = 6
DEMO_MODEL = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class RoundLine:
    """A round in the list: its figures, and how its policy was judged, None before there is one."""

    row: RoundRow
    judged: PolicyEvaluation | None
    reference_tokens: float | None

    @property
    def length_growth(self) -> float | None:
        """Return how long the policy's responses are, in lengths of the SFT reference's."""
        tokens = self.judged.summary.tokens if self.judged else None
        return tokens / self.reference_tokens if tokens and self.reference_tokens else None


@dataclass(frozen=True)
class StudyOverview:
    """All that the study home shows."""

    recipe: Recipe
    train_prompts: int
    heldout_prompts: int
    rounds: list[RoundRow]
    shows_all_rounds: bool
    labels: LabelCounts
    steps: list[LoopStep]
    action: NextAction
    jobs: list[JobRow]
    people: list[PersonRow]
    engine: EngineOverview
    evaluation: StudyEvaluation
    health: BatchQuality | None
    queues: list[ReviewQueue]
    glances: list[RunGlance]

    @property
    def left_pairs(self) -> int:
        """Return how many pairs are held though nobody works on them."""
        return sum(person.left for person in self.people)

    @property
    def left_by(self) -> list[PersonRow]:
        return [person for person in self.people if person.left]

    @property
    def current(self) -> RoundRow | None:
        return self.rounds[0] if self.rounds else None

    @property
    def in_use(self) -> PolicyEvaluation | None:
        """Return what is known of the policy in use."""
        return self.evaluation.in_use

    @property
    def headline(self) -> str:
        return headline_of(self.evaluation)

    @property
    def basis(self) -> str:
        return basis_of(self.evaluation)

    @property
    def win_rates(self) -> Chart | None:
        return win_rate_chart(self.evaluation)

    @property
    def lines(self) -> list[RoundLine]:
        """Return the rounds on the page, newest first, each with what is known of its policy."""
        judged = {row.policy.pk: row for row in self.evaluation.rows}
        reference = self.evaluation.reference_summary.tokens
        return [
            RoundLine(row, judged.get(row.policy.pk) if row.policy else None, reference)
            for row in (self.rounds if self.shows_all_rounds else self.rounds[:ROUNDS_SHOWN])
        ]

    @property
    def hidden_rounds(self) -> int:
        return 0 if self.shows_all_rounds else max(0, len(self.rounds) - ROUNDS_SHOWN)

    @property
    def live_query(self) -> str:
        """Return what a polling page says of itself."""
        return "?rounds=all" if self.shows_all_rounds else ""

    @property
    def panel_jobs(self) -> list[JobRow]:
        """Return the jobs worth a line: those at work, then what needs someone, then the last that ended."""
        ended = [job for job in self.jobs if job.is_done][-FINISHED_JOBS_SHOWN:]
        shown = [job for job in reversed(self.jobs) if job.is_active or job.can_retry or job in ended]
        return sorted(shown, key=lambda job: PANEL_ORDER.get(job.state, len(PANEL_ORDER)))

    @property
    def poll_seconds(self) -> int | None:
        """Return how often the page asks again; None when nothing moves until someone acts."""
        seconds = poll_seconds(jobs=self.jobs, engine=self.engine, current=self.current)
        is_judged = self.in_use is not None and self.in_use.waiting > 0
        return seconds or (SECONDS_BETWEEN_LABELS if is_judged else None)


def suggested_base_model() -> str:
    """Return the newest study's base model, else the demo model's folder where there is one."""
    newest = Recipe.objects.order_by("-study__created_at").first()
    if newest is not None:
        return newest.base_model
    demo = Path(settings.STUDIO_MODELS) / DEMO_MODEL
    return str(demo) if demo.is_dir() else ""


def poll_seconds(*, jobs: list[JobRow], engine: EngineOverview, current: RoundRow | None) -> int | None:
    if any(job.is_active for job in jobs) or engine.state in ("starting", "warming"):
        return 2
    if current is None or current.round.state != Round.State.COLLECTING:
        return None
    return SECONDS_BETWEEN_LABELS if current.labels.labels_open else None


def study_overview(study: Study, *, shows_all_rounds: bool = False) -> StudyOverview:
    """Return what the study home shows, in a fixed number of queries."""
    jobs = job_rows(study)
    rounds = round_rows(study, jobs=jobs)
    current = rounds[0] if rounds else None
    prompts = prompt_counts(study)
    evaluation = study_evaluation(study, settled=settled_by(current.round if current else None))
    readiness = readiness_of(current)
    action = action_of(
        current,
        readiness=readiness,
        train_prompts=prompts.get(Split.TRAIN, 0),
        evaluation=evaluation,
    )
    batch = current.round.number if current else 0
    health = batch_quality(study, batch=batch) if current else None
    return StudyOverview(
        recipe=study.recipe,
        train_prompts=prompts.get(Split.TRAIN, 0),
        heldout_prompts=prompts.get(Split.HELDOUT, 0),
        rounds=rounds,
        shows_all_rounds=shows_all_rounds,
        labels=sum((row.labels for row in rounds), LabelCounts()),
        steps=steps_of(current, readiness=readiness, evaluation=evaluation),
        action=action,
        jobs=jobs,
        people=people(study, batch=batch, median_seconds=health.median_seconds if health else {}),
        engine=engine_overview(),
        evaluation=evaluation,
        health=health,
        queues=review_queues(study, rounds=rounds, readiness=readiness),
        glances=[run_glance(run.run) for run in running(current)],
    )


def action_of(
    current: RoundRow | None,
    *,
    readiness: Readiness | None,
    train_prompts: int,
    evaluation: StudyEvaluation,
) -> NextAction:
    """Return the next action of the study's newest round: the same on its home and on the round's page."""
    next_policy = evaluation.policy_in_use
    made = [judged(evaluation, policy=run.policy) for run in current.runs if run.policy] if current else []
    return next_action(
        current,
        readiness=readiness,
        train_prompts=train_prompts,
        next_policy=in_a_sentence(next_policy) if next_policy else "",
        judged=judged(evaluation, policy=next_policy),
        made=[item for item in made if item is not None],
    )


def steps_of(
    current: RoundRow | None, *, readiness: Readiness | None, evaluation: StudyEvaluation
) -> list[LoopStep]:
    """Return the loop strip of a round: the same on the study's home and on the round's page."""
    own = judged(evaluation, policy=current.policy if current else None)
    return loop_steps(current, readiness=readiness, judged=own)


def judged(evaluation: StudyEvaluation, *, policy: Policy | None) -> Judged | None:
    """Return how far people have come in judging a policy; None for the reference, which needs no gate."""
    row = evaluation.row(policy.number) if policy else None
    if row is None:
        return None
    return Judged(
        prompts=row.over_reference.tally.prompts,
        waiting=row.waiting,
        failures=row.gate.failures,
        gate=row.gate.sentence,
        verdict=row.gate.verdict,
        label=row.policy.label,
        policy_number=row.policy.number,
    )


def running(current: RoundRow | None) -> list[RunRow]:
    return [run for run in current.runs if run.job and run.job.state == Job.State.RUNNING] if current else []


def readiness_of(current: RoundRow | None) -> Readiness | None:
    """Return whether the round can train; None when it is not collecting."""
    if current is None or current.round.state != Round.State.COLLECTING:
        return None
    return round_readiness(current.round)


def prompt_counts(study: Study) -> dict[str, int]:
    counts = Prompt.objects.filter(study=study).order_by().values("split").annotate(prompts=Count("pk"))
    return {row["split"]: row["prompts"] for row in counts}
