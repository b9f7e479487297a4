"""One run on a page of its own: where it stands, what it warns of, what it did to its examples."""

from __future__ import annotations

from dataclasses import dataclass

from training.core.run.directory import RunDirectory
from training.models import Recipe, Round, Run
from training.selectors.contradictions import ContradictedExample, most_contradicted
from training.selectors.job_rows import JobRow, job_rows
from training.selectors.metrics import run_directory
from training.selectors.rounds import RunRow, run_row
from training.selectors.runs import RunDetails, run_details
from training.services.further_runs import round_fault

CHECKPOINT = "step-"
POLL_SECONDS = 2


@dataclass(frozen=True)
class RunPage:
    """What the run's page shows; `resumes_from` is the step that a retry goes on from, 0 for the start."""

    run: RunRow
    round: Round
    recipe: Recipe
    details: RunDetails
    contradicted: list[ContradictedExample]
    resumes_from: int
    others: list[Run]
    poll_seconds: int | None

    @property
    def job(self) -> JobRow | None:
        return self.run.open_job

    @property
    def review_list(self) -> str:
        """Return the pairs of the examples shown, as the review page takes a list of them."""
        pairs = dict.fromkeys(row.pair.pk for row in self.contradicted if row.pair)
        return ",".join(map(str, pairs))

    @property
    def can_duplicate(self) -> bool:
        """Return whether the round takes further runs still."""
        return not round_fault(self.round)


def run_page(run: Run) -> RunPage:
    """Return what the run's page shows, in a fixed number of queries; `run` has its round loaded."""
    study = run.round.study
    row = run_row(run, jobs=job_rows(study))
    return RunPage(
        run=row,
        round=run.round,
        recipe=study.recipe,
        details=run_details(run),
        contradicted=most_contradicted(run),
        resumes_from=last_checkpoint(run),
        others=list(run.round.runs.exclude(pk=run.pk).only("number").order_by("number")),
        poll_seconds=POLL_SECONDS if row.open_job and row.open_job.is_active else None,
    )


def last_checkpoint(run: Run) -> int:
    """Return the step of the run's newest checkpoint, 0 without one."""
    folder = RunDirectory(run_directory(run)).checkpoints
    steps = [path.name.removeprefix(CHECKPOINT) for path in folder.glob(f"{CHECKPOINT}*")]
    return max((int(step) for step in steps if step.isdecimal()), default=0)
