"""The curves of a run, on preferences or on demonstrations, from the metrics file of its run directory."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path
from typing import Any

from django.conf import settings

from training.core.run.records import StepMetrics
from training.models import DemonstrationRun, Run

METRICS_FILE = "metrics.jsonl"
SERIES = (
    "loss",
    "rewards/accuracies",
    "rewards/margins",
    "rewards/chosen",
    "rewards/rejected",
    "log_ratio_per_token/chosen",
    "log_ratio_per_token/rejected",
    "logps/chosen",
    "logps/rejected",
    "absolute_log_ratio_per_token",
    # What runs of earlier versions have in its place.
    "kl_per_token",
    "length_margin_correlation",
    "grad_norm",
    "learning_rate",
)
# A run on demonstrations has no reference and no β: no rewards, margins or log-ratios.
DEMONSTRATION_SERIES = ("loss", "mean_token_accuracy", "grad_norm", "learning_rate")
# What of an evaluation on held-out examples is drawn, in either stage.
EVALUATIONS = ("eval_loss", "eval_mean_token_accuracy", "eval_rewards/accuracies")
EVALUATION_MARK = '"eval_loss"'
STEP = re.compile(r'"step": ?(\d+)')
# Lines are under a kilobyte; this holds the last ten of them and some evaluations between.
TAIL_BYTES = 24_000
# A chart is a few hundred pixels wide: of a longer run whole curves have evenly spaced steps.
MOST_STEPS = 1000
RECENT_STEPS = 10


@dataclass(frozen=True)
class Curves:
    """Values per optimiser step, in step order; None stands where a value is missing or not finite.

    `evaluations` are all looks at held-out examples so far, by the name of their figure: step and value.
    """

    steps: list[int]
    series: dict[str, list[float | None]]
    not_finite: list[str]
    evaluations: dict[str, list[tuple[int, float | None]]] = field(default_factory=dict)


def run_directory(run: Run | DemonstrationRun) -> Path:
    """Return where the run's files lie. Raises ValueError for a path that leaves STUDIO_HOME."""
    home = Path(settings.STUDIO_HOME)
    directory = (home / run.directory).resolve()
    if not run.directory or not directory.is_relative_to(home):
        raise ValueError(f"directory = {run.directory!r} of {run} is not below STUDIO_HOME")
    return directory


def run_curves(run: Run | DemonstrationRun, *, after: int = -1) -> Curves:
    """Return the metrics of all steps above `after`. A run that has written nothing yet has no steps.

    A half-written last line, which the trainer may just be writing, is left for the next call. Whole curves
    of a run of more than `MOST_STEPS` lines have some of its steps: always the last one, and those that were
    evaluated, whose looks are drawn on them.
    """
    series = SERIES if isinstance(run, Run) else DEMONSTRATION_SERIES
    try:
        text = (run_directory(run) / METRICS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return curves_of([], series=series)
    rows: dict[int, dict[str, Any]] = {}
    lines = text.splitlines()[::-1]
    evaluations = evaluations_of([line for line in reversed(lines) if EVALUATION_MARK in line])
    for line in lines if after >= 0 else thinned(lines, evaluations=evaluations):
        row = parsed(line)
        if row is None:
            continue
        if row["step"] <= after:
            break
        rows.setdefault(row["step"], row)
    found = curves_of([rows[step] for step in sorted(rows)], series=series)
    return replace(found, evaluations=evaluations)


def thinned(lines: Sequence[str], *, evaluations: Mapping[str, Sequence[tuple[int, object]]]) -> list[str]:
    """Return at most about `MOST_STEPS` of the lines (newest first), evenly spaced, and all about a step that
    was evaluated.
    """
    looked = {step for looks in evaluations.values() for step, _ in looks}
    stride = max(1, -(-len(lines) // MOST_STEPS))
    return [
        line
        for place, line in enumerate(lines)
        # The last line may be half written, or an evaluation: of the newest ones all are taken.
        if place < stride or place % stride == 0 or step_in(line) in looked
    ]


def step_in(line: str) -> int | None:
    """Return the step that a line is about, without reading all of it."""
    found = STEP.search(line)
    return int(found[1]) if found else None


def evaluations_of(lines: Iterable[str]) -> dict[str, list[tuple[int, float | None]]]:
    """Return the figures of `EVALUATIONS` that the lines about evaluations have, step by step."""
    found: dict[str, list[tuple[int, float | None]]] = {}
    for line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        for name in EVALUATIONS:
            if name in row:
                found.setdefault(name, []).append((row["step"], finite(row[name])))
    return found


def parsed(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    is_step = isinstance(row, dict) and isinstance(row.get("step"), int) and "eval_loss" not in row
    return row if is_step else None


def curves_of(rows: list[dict[str, Any]], *, series: Sequence[str] = SERIES) -> Curves:
    return Curves(
        steps=[row["step"] for row in rows],
        series={name: [finite(row.get(name)) for row in rows] for name in series},
        not_finite=[name for name in series if any(not_finite(row.get(name)) for row in rows)],
    )


def finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and isfinite(value) else None


def not_finite(value: Any) -> bool:
    return isinstance(value, float) and not isfinite(value)


def latest_steps(run: Run) -> list[StepMetrics]:
    """Return the run's first step and its latest ones, in order; reads the ends of the file alone."""
    try:
        with (run_directory(run) / METRICS_FILE).open("rb") as file:
            first = file.readline()
            file.seek(max(len(first), os.fstat(file.fileno()).st_size - TAIL_BYTES))
            tail = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    rows = {
        row["step"]: row for line in tail if (row := parsed(line)) and finite(row.get("loss")) is not None
    }
    recent = [rows[step] for step in sorted(rows)][-RECENT_STEPS:]
    start = parsed(first.decode("utf-8", errors="replace"))
    return [StepMetrics.from_json(row) for row in ([start] if start else []) + recent]
