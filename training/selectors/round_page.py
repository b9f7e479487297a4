"""One round in full: its pairs and labels, what training on it would use, and its run worth a look."""

from dataclasses import dataclass
from math import ceil

from annotate.models import Split, Study
from annotate.selectors.preferences import LabelUsage
from training.models import Recipe, Round
from training.selectors.engine import engine_overview
from training.selectors.evaluation import StudyEvaluation, study_evaluation
from training.selectors.job_rows import JobRow, job_rows
from training.selectors.label_counts import LabelCounts, usage_until
from training.selectors.loop_strip import LoopStep, NextAction
from training.selectors.people import PersonRow, people
from training.selectors.policy_in_use import newest_round, settled_by
from training.selectors.readiness import Readiness
from training.selectors.rounds import RoundRow, RunRow, round_rows
from training.selectors.runs import RunDetails, run_details
from training.selectors.studies import action_of, poll_seconds, readiness_of, steps_of
from training.services.recipes import recipe_warnings


@dataclass(frozen=True)
class RoundPage:
    row: RoundRow
    recipe: Recipe
    warnings: list[str]
    readiness: Readiness | None
    preview: LabelUsage | None
    details: RunDetails | None
    steps: list[LoopStep]
    action: NextAction | None
    people: list[PersonRow]
    poll_seconds: int | None
    evaluation: StudyEvaluation
    is_newest: bool

    @property
    def round(self) -> Round:
        return self.row.round

    @property
    def labels(self) -> LabelCounts:
        return self.row.labels

    @property
    def run(self) -> RunRow | None:
        return self.row.shown_run

    @property
    def is_chosen_run(self) -> bool:
        """Return whether the run shown made the policy that was chosen for the next round."""
        policy = self.run.policy if self.run else None
        return policy is not None and policy.pk == self.round.chosen_policy_id

    @property
    def jobs(self) -> list[JobRow]:
        return self.row.jobs

    @property
    def estimated_steps(self) -> int:
        """Return how many optimiser steps a run on the preview's preferences takes."""
        usable = self.preview.usable if self.preview else 0
        return ceil(usable / self.recipe.pairs_per_step) * self.recipe.epochs

    @property
    def live_query(self) -> str:
        """Return what a polling page says of itself, so that it is reloaded when a new run begins."""
        return f"?run={self.run.run.number if self.run else 0}"

    @property
    def can_train_again(self) -> bool:
        """The round's run failed or was cancelled: another one may start with today's recipe."""
        job = self.run.job if self.run else None
        return self.round.state == Round.State.TRAINING and bool(job and job.can_retry)


def round_page(study: Study, *, number: int) -> RoundPage:
    """Return what a round's page shows, in a fixed number of queries. The round must exist."""
    jobs = job_rows(study)
    row = round_rows(study, jobs=jobs, number=number)[0]
    readiness, newest = readiness_of(row), newest_round(study)
    is_newest = newest == row.round
    evaluation = study_evaluation(study, settled=settled_by(newest))
    action = None
    if is_newest:
        prompts = study.prompts.filter(split=Split.TRAIN).count()
        action = action_of(row, readiness=readiness, train_prompts=prompts, evaluation=evaluation)
    recipe, shown = study.recipe, row.shown_run
    return RoundPage(
        row=row,
        recipe=recipe,
        warnings=[*recipe_warnings(recipe), *cautions(evaluation, recipe=recipe)],
        readiness=readiness,
        preview=usage_until(study, rounds=study.rounds.filter(number__lte=number)) if readiness else None,
        details=run_details(shown.run) if shown else None,
        steps=steps_of(row, readiness=readiness, evaluation=evaluation),
        people=people(study, batch=number),
        action=action,
        poll_seconds=poll_seconds(jobs=row.jobs, engine=engine_overview(), current=row),
        evaluation=evaluation,
        is_newest=is_newest,
    )


def cautions(evaluation: StudyEvaluation, *, recipe: Recipe) -> list[str]:
    """Return what the newest policy says against training with the same settings again."""
    row = evaluation.newest
    run = getattr(row.policy, "run", None) if row else None
    if row is None or run is None or not row.failing:
        return []
    before = (run.config.get("optimizer", {}).get("learning_rate"), run.config.get("loss", {}).get("beta"))
    if before != (recipe.learning_rate, recipe.beta):
        return []
    return [
        f"{row.policy.label} was trained with this learning rate and β, and fails its gate "
        f"({', '.join(row.failing)}). A lower learning rate or a higher β keeps the next one closer to the "
        "SFT reference."
    ]
