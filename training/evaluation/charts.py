"""Small pictures as coordinates: win rates and strengths by policy. A template draws them as SVG. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor

from training.evaluation.words import percent, signed

HEIGHT = 220
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 34
NARROWEST, STEP = 520, 34
MOST_LABELS = 12
BESIDE = 7.0

Text = Callable[[float], str]
Place = Callable[[float], float]


@dataclass(frozen=True)
class Point:
    """A value with its interval at one place of the horizontal axis; None where nothing is known yet."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Mark:
    """Where a point lies in the picture, and what it says when pointed at."""

    x: float
    y: float
    y_low: float
    y_high: float
    title: str


@dataclass(frozen=True)
class Series:
    """One line of marks; `place` numbers its colour."""

    name: str
    place: int
    marks: tuple[Mark, ...]

    @property
    def line(self) -> str:
        """Return the polyline through the marks."""
        return " ".join(f"{mark.x:.1f},{mark.y:.1f}" for mark in self.marks)


@dataclass(frozen=True)
class Tick:
    """A label, and where it stands along its axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Chart:
    """A picture in its own units, `width` by `height`; `level` is the line of "no difference"."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    series: tuple[Series, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    level: float


def share_chart(series: Sequence[tuple[str, Sequence[Point]]]) -> Chart | None:
    """Return shares between 0 and 100 % with a line at a half; None when no point has a value."""
    return _chart(series, low=0.0, high=1.0, level=0.5, ticks=(0, 0.25, 0.5, 0.75, 1), text=percent)


def strength_chart(points: Sequence[Point]) -> Chart | None:
    """Return strengths in nats with a line at 0; None when no point has a value."""
    known = [value for point in points for value in (point.low, point.high, point.value) if value is not None]
    if not known:
        return None
    low, high = min(-1, floor(min(known))), max(1, ceil(max(known)))
    step = max(1, (high - low) // 4)
    ticks = tuple(float(value) for value in range(low, high + 1) if value % step == 0)
    return _chart([("Strength", points)], low=low, high=high, level=0.0, ticks=ticks, text=signed)


def _chart(
    series: Sequence[tuple[str, Sequence[Point]]],
    *,
    low: float,
    high: float,
    level: float,
    ticks: Sequence[float],
    text: Text,
) -> Chart | None:
    if not any(point.value is not None for _, points in series for point in points):
        return None
    labels = [point.label for point in series[0][1]]
    width = max(NARROWEST, LEFT + RIGHT + STEP * len(labels))
    gap = (width - LEFT - RIGHT) / len(labels)

    def up(value: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low), 1)

    offset = BESIDE / 2 if len(series) > 1 else 0.0
    every = ceil(len(labels) / MOST_LABELS)
    return Chart(
        width=width,
        height=HEIGHT,
        left=LEFT,
        right=width - RIGHT,
        bottom=HEIGHT - BOTTOM,
        series=tuple(
            Series(name, place, _marks(points, offset=offset * (2 * place - 3), gap=gap, up=up, text=text))
            for place, (name, points) in enumerate(series, start=1)
        ),
        across=tuple(
            Tick(round(LEFT + gap * (number + 0.5), 1), label)
            for number, label in enumerate(labels)
            if number % every == 0
        ),
        up=tuple(Tick(up(value), text(value)) for value in ticks),
        level=up(level),
    )


def _marks(points: Sequence[Point], *, offset: float, gap: float, up: Place, text: Text) -> tuple[Mark, ...]:
    """Return a mark for each point with a value, `offset` beside the middle of its place."""
    marks = []
    for number, point in enumerate(points):
        if point.value is None:
            continue
        low = point.value if point.low is None else point.low
        high = point.value if point.high is None else point.high
        marks.append(
            Mark(
                x=round(LEFT + gap * (number + 0.5) + offset, 1),
                y=up(point.value),
                y_low=up(low),
                y_high=up(high),
                title=f"{point.label}: {text(point.value)} [{text(low)}, {text(high)}]",
            )
        )
    return tuple(marks)
