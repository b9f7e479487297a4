"""Small drawings as numbers for server-made SVG: no script, and no style that the security policy refuses."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

WIDTH, HEIGHT, GAP = 560.0, 96.0, 3.0


@dataclass(frozen=True)
class Bar:
    """One day: the rectangle, and what it stands for."""

    x: float
    y: float
    width: float
    height: float
    day: date
    value: int


@dataclass(frozen=True)
class Bars:
    """A chart of bars with its highest value."""

    bars: tuple[Bar, ...]
    highest: int
    total: int
    width: float = WIDTH
    height: float = HEIGHT


def day_bars(days: Sequence[tuple[date, int]]) -> Bars:
    """Lay out one bar a day; an empty day keeps a hairline, so that its place can be seen."""
    highest = max((value for _, value in days), default=0)
    step = WIDTH / max(1, len(days))
    bars = []
    for place, (day, value) in enumerate(days):
        height = max(1.0, HEIGHT * value / highest) if highest else 1.0
        bars.append(
            Bar(
                x=round(place * step, 2),
                y=round(HEIGHT - height, 2),
                width=round(step - GAP, 2),
                height=round(height, 2),
                day=day,
                value=value,
            )
        )
    return Bars(bars=tuple(bars), highest=highest, total=sum(value for _, value in days))
