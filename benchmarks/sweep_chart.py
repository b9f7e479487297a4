"""The chart of a β sweep: three small panels over β on a logarithmic axis, as one SVG for both colour
schemes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PANEL, HEIGHT, GAP = 230, 190, 34
LEFT, TOP, BOTTOM = 46, 34, 46
WIDTH = 3 * PANEL + 2 * GAP
STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2937 }
.small { font-size: 11px; fill: #4b5563 }
.axis { stroke: #9ca3af; fill: none }
.line { stroke: #2563eb; stroke-width: 2; fill: none }
.dot { fill: #2563eb }
@media (prefers-color-scheme: dark) {
  text { fill: #e5e7eb } .small { fill: #9ca3af } .axis { stroke: #6b7280 }
  .line { stroke: #60a5fa } .dot { fill: #60a5fa }
}"""


@dataclass(frozen=True)
class SweepPoint:
    """What one β came to: held-out margin β·Δ and accuracy, and KL(policy‖reference) in nats per
    completion.
    """

    beta: float
    margin: float
    accuracy: float
    kl: float


Value = Callable[[SweepPoint], float]


def sweep_chart(points: Sequence[SweepPoint]) -> str:
    """The SVG text: margin, accuracy and KL over β."""
    panels: tuple[tuple[str, Value, float | None], ...] = (
        ("Held-out margin β·Δ", lambda point: point.margin, None),
        ("Held-out accuracy", lambda point: point.accuracy, 1.0),
        ("KL(policy‖reference), nats", lambda point: point.kl, None),
    )
    drawn = "\n".join(
        _panel(points, title=title, value=value, most=most, x=place * (PANEL + GAP))
        for place, (title, value, most) in enumerate(panels)
    )
    total = TOP + HEIGHT + BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" '
        f'aria-label="Margin, accuracy and KL over β">\n<style>\n{STYLE}\n</style>\n{drawn}\n</svg>\n'
    )


def _panel(points: Sequence[SweepPoint], *, title: str, value: Value, most: float | None, x: float) -> str:
    values = [value(point) for point in points]
    low, high = min(0.0, *values), max(values) if most is None else most
    span = (high - low) or 1.0
    logs = [math.log10(point.beta) for point in points]

    def place(log: float) -> float:
        return x + LEFT + (log - logs[0]) / (logs[-1] - logs[0]) * (PANEL - LEFT - 16) + 8

    def height(number: float) -> float:
        return TOP + HEIGHT - (number - low) / span * HEIGHT

    spots = [(place(log), height(number)) for log, number in zip(logs, values, strict=True)]
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in spots)
    bottom = TOP + HEIGHT
    parts = [
        f'<text x="{x + LEFT}" y="18">{title}</text>',
        f'<path class="axis" d="M{x + LEFT} {TOP}V{bottom}H{x + PANEL}"/>',
        f'<polyline class="line" points="{line}"/>',
        *(_tick(x + LEFT, height(number), text=f"{number:.2g}") for number in (low, (low + high) / 2, high)),
    ]
    for (a, b), point, number in zip(spots, points, values, strict=True):
        parts += [
            f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3.5"/>',
            f'<text class="small" x="{a:.1f}" y="{b - 8:.1f}" text-anchor="middle">{number:.2g}</text>',
            f'<text class="small" x="{a:.1f}" y="{bottom + 16}" text-anchor="middle">{point.beta:g}</text>',
        ]
    middle = x + (PANEL + LEFT) / 2
    parts.append(f'<text class="small" x="{middle}" y="{bottom + 34}" text-anchor="middle">β</text>')
    return "\n".join(parts)


def _tick(x: float, y: float, *, text: str) -> str:
    return f'<text class="small" x="{x - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
