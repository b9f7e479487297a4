"""A run at a glance, for a list of jobs: its loss so far and what it said last. Reads ends of files only."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.models import Run
from training.selectors.metrics import METRICS_FILE, finite, parsed, run_directory
from training.selectors.runs import log_tail

TAIL_BYTES = 96 * 1024
MOST_POINTS = 80
WIDTH, HEIGHT = 160.0, 32.0
LOG_LINES = 3


@dataclass(frozen=True)
class RunGlance:
    """`line` is a polyline in a picture of 160 by 32; `steps` are the first and the last that it shows."""

    run_id: int
    line: str
    steps: tuple[int, int]
    loss: float | None
    accuracy: float | None
    log: str


def run_glance(run: Run) -> RunGlance:
    """Return the latest steps of a run's loss and the last lines of its log; makes no query."""
    rows = [row for text in last_lines(run_directory(run) / METRICS_FILE) if (row := parsed(text))]
    points = [(row["step"], loss) for row in rows if (loss := finite(row.get("loss"))) is not None]
    last = rows[-1] if rows else {}
    return RunGlance(
        run_id=run.pk,
        line=polyline(points),
        steps=(points[0][0], points[-1][0]) if points else (0, 0),
        loss=finite(last.get("loss")),
        accuracy=finite(last.get("rewards/accuracies")),
        log="\n".join(log_tail(run).strip().splitlines()[-LOG_LINES:]),
    )


def last_lines(path: Path) -> list[str]:
    """Return evenly spaced lines of the file's end, the last among them; none where there is no file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    whole = lines[1:] if size > TAIL_BYTES else lines
    stride = max(1, -(-len(whole) // MOST_POINTS))
    return list(reversed(whole[::-1][::stride]))


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
