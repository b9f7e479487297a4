"""Win rates and strengths by policy as pictures. Pure."""

from collections.abc import Sequence
from math import ceil, floor

from training.evaluation.words import percent, signed
from training.policy_chart import RIGHT, Chart, Frame, Point, Scale, chart_of

# On a phone css/evaluation.css writes the labels larger: LEFT has room for "100 %" there, too.
HEIGHT, LEFT, BOTTOM = 236, 66, 50
NARROWEST, STEP = 520, 34
MOST_LABELS = 12
SHARES = Scale(0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), tick_text=percent, text=percent, level=0.5)


def share_chart(series: Sequence[tuple[str, Sequence[Point]]]) -> Chart | None:
    """Return shares between 0 and 100 % with a line at a half; None when no point has a value."""
    return chart_of(series, scale=SHARES, frame=_frame(series))


def strength_chart(points: Sequence[Point]) -> Chart | None:
    """Return strengths in nats with a line at 0; None when no point has a value."""
    known = [value for point in points for value in (point.low, point.high, point.value) if value is not None]
    if not known:
        return None
    low, high = min(-1, floor(min(known))), max(1, ceil(max(known)))
    step = max(1, (high - low) // 4)
    ticks = tuple(float(value) for value in range(low, high + 1) if value % step == 0)
    series = [("Strength", points)]
    scale = Scale(low, high, ticks, tick_text=signed, text=signed, level=0.0)
    return chart_of(series, scale=scale, frame=_frame(series))


def _frame(series: Sequence[tuple[str, Sequence[Point]]]) -> Frame:
    width = max(NARROWEST, LEFT + RIGHT + STEP * len(series[0][1]))
    return Frame(width, HEIGHT, left=LEFT, bottom=BOTTOM, most_labels=MOST_LABELS)
