"""A run at a glance, for a list of jobs: its loss so far and what it said last. Reads ends of files only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.models import Run
from training.selectors.metrics import METRICS_FILE, RECENT_STEPS, finite, parsed, run_directory
from training.selectors.runs import log_tail

TAIL_BYTES = 96 * 1024
MOST_POINTS = 80
WIDTH, HEIGHT = 160.0, 32.0
LOG_LINES = 3


@dataclass(frozen=True)
class RunGlance:
    """`line` is a polyline in a picture of 160 by 32; `steps` are the first and the last that it shows.

    `loss` and `accuracy` are means over the latest steps.
    """

    run_id: int
    line: str
    steps: tuple[int, int]
    loss: float | None
    accuracy: float | None
    log: str


def run_glance(run: Run) -> RunGlance:
    """Return the latest steps of a run's loss and the last lines of its log; makes no query."""
    lines = last_lines(run_directory(run) / METRICS_FILE)
    rows = [row for text in evenly(lines) if (row := parsed(text))]
    points = [(row["step"], loss) for row in rows if (loss := finite(row.get("loss"))) is not None]
    recent = [row for text in lines[-RECENT_STEPS:] if (row := parsed(text))]
    return RunGlance(
        run_id=run.pk,
        line=polyline(points),
        steps=(points[0][0], points[-1][0]) if points else (0, 0),
        loss=mean_of(recent, "loss"),
        accuracy=mean_of(recent, "rewards/accuracies"),
        log="\n".join(log_tail(run).strip().splitlines()[-LOG_LINES:]),
    )


def last_lines(path: Path) -> list[str]:
    """Return the lines of the file's end; none where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    return lines[1:] if size > TAIL_BYTES else lines


def evenly(lines: Sequence[str]) -> list[str]:
    """Return evenly spaced lines, `MOST_POINTS` at most and the last among them."""
    stride = max(1, -(-len(lines) // MOST_POINTS))
    return list(reversed(lines[::-1][::stride]))


def mean_of(rows: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Return the mean of a figure over the examples of some steps, None where none has it."""
    # Batches of a file of an earlier version, which does not say their size, count alike.
    known = [
        (value, row.get("examples") or 1) for row in rows if (value := finite(row.get(name))) is not None
    ]
    return sum(value * size for value, size in known) / sum(size for _, size in known) if known else None


def polyline(points: Sequence[tuple[int, float]]) -> str:
    """Return the points as a polyline that fills the picture; empty with fewer than two steps."""
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return ""
    steps, values = [step for step, _ in points], [value for _, value in points]
    span, height = steps[-1] - steps[0], (max(values) - min(values)) or 1.0
    places = (
        (WIDTH * (step - steps[0]) / span, HEIGHT - 1 - (HEIGHT - 2) * (value - min(values)) / height)
        for step, value in points
    )
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
