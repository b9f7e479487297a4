"""Values by policy as a picture: where marks, intervals and labels lie. Pure; a template draws it as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

TOP, RIGHT = 12, 12
BESIDE = 7.0
AXIS = "Policy"

Text = Callable[[float], str]


@dataclass(frozen=True)
class Point:
    """A policy's value; None where there is none yet. `low` and `high` bound its interval, where known.

    `is_aside` says that the policy is not on the way to the one in use: the line passes it by.
    """

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    is_aside: bool = False


@dataclass(frozen=True)
class Mark:
    """Where a point lies in the picture, and what it says when pointed at."""

    x: float
    y: float
    y_low: float | None
    y_high: float | None
    title: str
    is_aside: bool = False


@dataclass(frozen=True)
class Series:
    """One line of marks; `place` numbers its colour from 1."""

    name: str
    place: int
    marks: tuple[Mark, ...]

    @property
    def line(self) -> str:
        """Return the polyline through the marks that are not aside."""
        return " ".join(f"{mark.x},{mark.y}" for mark in self.marks if not mark.is_aside)


@dataclass(frozen=True)
class Tick:
    """A label, and where it stands along its axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A picture in its own units; `level` is the line of "no difference", where it has one.

    `title` is what runs along the axis below.
    """

    width: int
    height: int
    left: int
    right: int
    bottom: int
    series: tuple[Series, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    level: float | None
    title: Tick = Tick(0, "")

    @property
    def has_aside(self) -> bool:
        return any(mark.is_aside for series in self.series for mark in series.marks)


@dataclass(frozen=True)
class Scale:
    """The vertical axis from `low` to `high`: its ticks, its level, how ticks and values are written."""

    low: float
    high: float
    ticks: tuple[float, ...]
    tick_text: Text
    text: Text
    level: float | None = None


@dataclass(frozen=True)
class Frame:
    """The room of a picture: its size, the margins for the labels of both axes, how many fit below."""

    width: int
    height: int
    left: int
    bottom: int
    most_labels: int

    def across(self, number: float, *, count: int) -> float:
        """Return where the middle of place `number` of `count` is."""
        return round(self.left + (self.width - self.left - RIGHT) * (number + 0.5) / count, 1)

    def up(self, value: float, *, scale: Scale) -> float:
        """Return where a value is."""
        share = (scale.high - value) / (scale.high - scale.low)
        return round(TOP + (self.height - TOP - self.bottom) * share, 1)


def chart_of(series: Sequence[tuple[str, Sequence[Point]]], *, scale: Scale, frame: Frame) -> Chart | None:
    """Return the picture of named series over the same policies; None when no point has a value."""
    if not any(point.value is not None for _, points in series for point in points):
        return None
    labels = [point.label for point in series[0][1]]
    beside = BESIDE / 2 if len(series) > 1 else 0.0
    return Chart(
        width=frame.width,
        height=frame.height,
        left=frame.left,
        right=frame.width - RIGHT,
        bottom=frame.height - frame.bottom,
        series=tuple(
            Series(name, place, _marks(points, scale=scale, frame=frame, beside=beside * (2 * place - 3)))
            for place, (name, points) in enumerate(series, start=1)
        ),
        across=_labels(labels, frame=frame),
        up=tuple(Tick(frame.up(value, scale=scale), scale.tick_text(value)) for value in scale.ticks),
        level=None if scale.level is None else frame.up(scale.level, scale=scale),
        title=Tick(frame.across(0, count=1), AXIS),
    )


def _labels(labels: Sequence[str], *, frame: Frame) -> tuple[Tick, ...]:
    every = ceil(len(labels) / frame.most_labels)
    return tuple(
        Tick(frame.across(number, count=len(labels)), labels[number])
        for number in range(0, len(labels), every)
    )


def _marks(points: Sequence[Point], *, scale: Scale, frame: Frame, beside: float) -> tuple[Mark, ...]:
    """Return a mark for each point with a value, `beside` the middle of its place."""
    return tuple(
        Mark(
            x=round(frame.across(number, count=len(points)) + beside, 1),
            y=frame.up(point.value, scale=scale),
            y_low=None if point.low is None else frame.up(point.low, scale=scale),
            y_high=None if point.high is None else frame.up(point.high, scale=scale),
            title=_title(point, value=point.value, text=scale.text),
            is_aside=point.is_aside,
        )
        for number, point in enumerate(points)
        if point.value is not None
    )


def _title(point: Point, *, value: float, text: Text) -> str:
    aside = ", not on the way to the policy in use" if point.is_aside else ""
    if point.low is None or point.high is None:
        return f"{point.label}: {text(value)}{aside}"
    return f"{point.label}: {text(value)} [{text(point.low)}, {text(point.high)}]{aside}"
