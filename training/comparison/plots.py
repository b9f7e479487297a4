"""Where the marks of a small plot lie: one point a policy, with its interval. Pure; a template draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 30
MOST_LABELS = 11
TICKS_WANTED = 4


@dataclass(frozen=True)
class PlotPoint:
    """A policy's value; None where there is none yet. `low` and `high` bound its interval, where known."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Mark:
    """A point in the picture, with its bar where it has an interval."""

    label: str
    x: float
    y: float
    y_low: float | None
    y_high: float | None


@dataclass(frozen=True)
class Tick:
    """A line across at `place` with its text, or a text below at `place`."""

    place: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A drawn plot in units of its view box; `line` are the points of a polyline through the marks."""

    width: int
    height: int
    left: int
    right: int
    floor: int
    marks: list[Mark]
    line: str
    values: list[Tick]
    labels: list[Tick]
    zero: float | None


def plot_of(points: Sequence[PlotPoint], *, unit: str = "") -> Plot | None:
    """Return the plot of the points; None when none of them has a value."""
    known = [
        number for point in points for number in (point.value, point.low, point.high) if number is not None
    ]
    if not known:
        return None
    ticks = nice_ticks(min(known), max(known))
    low, high = ticks[0], ticks[-1]

    def across(place: int) -> float:
        span = WIDTH - LEFT - RIGHT
        return round(LEFT + span * (place + 0.5) / len(points), 1)

    def up(value: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    marks = [
        Mark(
            point.label,
            x=across(place),
            y=up(point.value),
            y_low=None if point.low is None else up(point.low),
            y_high=None if point.high is None else up(point.high),
        )
        for place, point in enumerate(points)
        if point.value is not None
    ]
    every = -(-len(points) // MOST_LABELS)
    return Plot(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        floor=HEIGHT - BOTTOM,
        marks=marks,
        line=" ".join(f"{mark.x},{mark.y}" for mark in marks),
        values=[Tick(up(tick), tick_text(tick, step=ticks[1] - ticks[0], unit=unit)) for tick in ticks],
        labels=[Tick(across(place), points[place].label) for place in range(0, len(points), every)],
        zero=up(0.0) if low < 0 < high else None,
    )


def nice_ticks(low: float, high: float) -> list[float]:
    """Return round numbers, 1, 2 or 5 times a power of ten apart, from below `low` to above `high`."""
    spread = high - low or abs(high) or 1.0
    rough = spread / TICKS_WANTED
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = floor(low / step + 1e-9)
    last = first + 1
    while last * step < high - step * 1e-9:
        last += 1
    return [round(number * step, 12) for number in range(first, last + 1)]


def tick_text(value: float, *, step: float, unit: str) -> str:
    """Return a tick's number with as many decimals as its step needs; "%" writes a share in per cent."""
    scale = 100 if unit == "%" else 1
    decimals = max(0, -floor(log10(step * scale) + 1e-9))
    text = f"{value * scale:.{decimals}f}".replace("-", "−")
    return f"{text} %" if unit == "%" else text
