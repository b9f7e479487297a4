"""A figure by policy as a small plot, on an axis with round numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from training.policy_chart import Chart, Frame, Point, Scale, Text, chart_of

FRAME = Frame(width=420, height=216, left=52, bottom=46, most_labels=11)
TICKS_WANTED = 4


def plot_of(name: str, points: Sequence[Point], *, unit: str = "") -> Chart | None:
    """Return the plot of the points; None when none of them has a value."""
    known = [
        number for point in points for number in (point.value, point.low, point.high) if number is not None
    ]
    if not known:
        return None
    ticks = nice_ticks(min(known), max(known))
    step = ticks[1] - ticks[0]
    scale = Scale(
        ticks[0],
        ticks[-1],
        tuple(ticks),
        tick_text=_written(step=step, unit=unit),
        text=_written(step=step / 100, unit=unit),
        level=0.0 if ticks[0] < 0 < ticks[-1] else None,
    )
    return chart_of([(name, points)], scale=scale, frame=FRAME)


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


def _written(*, step: float, unit: str) -> Text:
    """Write numbers with as many decimals as `step` needs; "%" writes a share in per cent."""
    scale = 100 if unit == "%" else 1
    decimals = max(0, -floor(log10(step * scale) + 1e-9))

    def text(value: float) -> str:
        written = f"{value * scale:.{decimals}f}".replace("-", "−")
        return f"{written} %" if unit == "%" else written

    return text
