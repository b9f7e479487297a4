"""A policy's ancestors as a picture: boxes from the SFT reference on, row by row. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BOX_WIDTH, BOX_HEIGHT = 156, 52
GAP, ROW_GAP = 36, 34
MARGIN = 6
PER_ROW = 6


@dataclass(frozen=True)
class Box:
    """One policy's place; `number` is the policy's, `note` a line of small print below its name."""

    number: int
    title: str
    note: str
    x: int
    y: int

    @property
    def middle(self) -> int:
        return self.x + BOX_WIDTH // 2


@dataclass(frozen=True)
class Lineage:
    """Boxes from the reference to the policy, and the paths of the arrows between neighbours."""

    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    width: int
    height: int
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def lineage_of(chain: Sequence[tuple[int, str, str]]) -> Lineage:
    """Return the picture of (number, title, note) in their order, the reference first."""
    boxes = tuple(
        Box(
            number=number,
            title=title,
            note=note,
            x=MARGIN + place % PER_ROW * (BOX_WIDTH + GAP),
            y=MARGIN + place // PER_ROW * (BOX_HEIGHT + ROW_GAP),
        )
        for place, (number, title, note) in enumerate(chain)
    )
    across, rows = min(len(boxes), PER_ROW), -(-len(boxes) // PER_ROW)
    return Lineage(
        boxes=boxes,
        arrows=tuple(_arrow(first, second) for first, second in pairwise(boxes)),
        width=2 * MARGIN + across * BOX_WIDTH + max(0, across - 1) * GAP,
        height=2 * MARGIN + rows * BOX_HEIGHT + max(0, rows - 1) * ROW_GAP,
    )


def _arrow(first: Box, second: Box) -> str:
    """Return an SVG path from one box to the next, on the same row or down to the row below."""
    if first.y == second.y:
        return f"M{first.x + BOX_WIDTH} {first.y + BOX_HEIGHT // 2}H{second.x - 2}"
    between = first.y + BOX_HEIGHT + ROW_GAP // 2
    return f"M{first.middle} {first.y + BOX_HEIGHT}V{between}H{second.middle}V{second.y - 2}"
