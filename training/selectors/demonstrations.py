"""A study's runs on demonstrations as its page shows them."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.models import Study
from training.evaluation.words import with_minus
from training.models import DemonstrationRun
from training.selectors.estimates import Speed, demonstration_speed
from training.selectors.job_rows import JobRow, job_rows
from training.selectors.run_losses import RunLosses, run_losses
from training.services.run_directories import absolute


@dataclass(frozen=True)
class DemonstrationRow:
    """One run: its job, what the loss came to (nats a token), and whether its model is the reference now."""

    run: DemonstrationRun
    job: JobRow | None
    is_base: bool

    @property
    def losses(self) -> RunLosses:
        return run_losses(self.run.result)

    @property
    def heldout(self) -> dict[str, float]:
        """Return what the kept weights came to on held-out demonstrations, or nothing."""
        values = (self.run.result or {}).get("heldout") or {}
        return {name.removeprefix("eval_"): value for name, value in values.items()}

    @property
    def ending(self) -> str:
        """Return that the run stopped early, and which step's weights it kept if not the last one's."""
        result = self.run.result or {}
        steps, kept = result.get("steps"), result.get("kept_step")
        stopped = f"stopped early after step {steps}" if result.get("stopped_early") else ""
        other = "" if kept in (None, steps) else f"kept step {kept} of {steps}"
        return ", ".join(part for part in (stopped, other) if part)

    @property
    def warnings(self) -> list[str]:
        """Return what the trainer warned of at the end."""
        return [with_minus(text) for text in (self.run.result or {}).get("warnings") or ()]

    @property
    def left_out(self) -> int:
        result = self.run.result or {}
        return int(result.get("examples", 0)) - int(result.get("used", 0))


@dataclass(frozen=True)
class DemonstrationPage:
    """What the page shows. `fixed` is why no other reference can be made any more, or empty; `speed` is None
    where nothing is known of how long a run takes.
    """

    rows: list[DemonstrationRow]
    base_model: str
    fixed: str
    speed: Speed | None

    @property
    def seconds_for_hundred(self) -> float | None:
        """Return how long it takes to go once over a hundred demonstrations."""
        return 100 * self.speed.seconds_per_example if self.speed else None

    @property
    def jobs(self) -> list[JobRow]:
        return [row.job for row in self.rows if row.job]

    @property
    def is_busy(self) -> bool:
        return any(job.is_active for job in self.jobs)

    @property
    def newest(self) -> DemonstrationRow | None:
        return self.rows[0] if self.rows else None

    @property
    def poll_seconds(self) -> int | None:
        return 2 if self.is_busy else None


def demonstration_page(study: Study) -> DemonstrationPage:
    """Return a study's runs on demonstrations, newest first: five queries."""
    base = study.recipe.base_model
    jobs = {row.demonstration_run_id: row for row in job_rows(study) if row.demonstration_run_id}
    rows = [
        DemonstrationRow(
            run=run,
            job=jobs.get(run.pk),
            is_base=bool(run.model_path) and str(absolute(run.model_path)) == base,
        )
        for run in study.demonstration_runs.order_by("-number")
    ]
    fixed = (
        "A round has been opened: the study's reference never changes after that; create another study to "
        "start from demonstrations."
    )
    return DemonstrationPage(
        rows=rows,
        base_model=base,
        fixed=fixed if study.rounds.exists() else "",
        speed=demonstration_speed(study.recipe),
    )
