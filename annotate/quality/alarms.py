"""Which figures of label quality deserve a sentence, and what it says. Pure.

A figure alarms only when its whole 95 % interval lies beyond the level, and those of gold pairs and repeats
only from ten of them on: a handful of labels never does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from annotate.quality.statistics import Alpha, Share

LOW_ALPHA = 0.2
ALPHA_PAIRS = 30
LOW_GOLD = 0.8
CHECKS = 10
LOW_CONSISTENCY = 0.8
HIGH_TIES = 0.5
HIGH_BOTH_BAD = 0.5
HIGH_LONGER = 0.65
FAST_SECONDS = 3.0
TIMED_LABELS = 20


class QualityFigures(Protocol):
    """What the sentences are made of."""

    @property
    def alpha(self) -> Alpha: ...
    @property
    def raw(self) -> Share: ...
    @property
    def consistency(self) -> Share: ...
    @property
    def gold(self) -> Share: ...
    @property
    def ties(self) -> Share: ...
    @property
    def both_bad(self) -> Share: ...
    @property
    def left(self) -> Share: ...
    @property
    def longer(self) -> Share: ...
    @property
    def median_seconds(self) -> float | None: ...
    @property
    def timed_labels(self) -> int: ...


@dataclass(frozen=True)
class Alarm:
    """A figure to look at, by its name, with a sentence that says what to do."""

    figure: str
    sentence: str


def alarms_of(figures: QualityFigures, *, whose: str) -> tuple[Alarm, ...]:
    """Return the figures that are worth a look, the gravest first; `whose` begins each sentence."""
    found = [
        _gold(figures.gold, whose=whose),
        _consistency(figures.consistency, whose=whose),
        _alpha(figures.alpha),
        _left(figures.left, whose=whose),
        _longer(figures.longer, whose=whose),
        _fast(figures, whose=whose),
        _often(figures.ties, figure="ties", what="Tie", level=HIGH_TIES, whose=whose),
        _often(figures.both_bad, figure="both_bad", what="Both are bad", level=HIGH_BOTH_BAD, whose=whose),
    ]
    return tuple(alarm for alarm in found if alarm is not None)


def percent(share: float) -> str:
    """Return a share as the pages write it, with a space that does not break."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def _gold(gold: Share, *, whose: str) -> Alarm | None:
    if gold.total < CHECKS or not gold.is_below(LOW_GOLD):
        return None
    return Alarm(
        "gold",
        f"{whose} answered {gold.hits:.0f} of {gold.total} gold pairs as expected. Check that the gold "
        "answers are beyond doubt, then go through some of them together.",
    )


def _consistency(consistency: Share, *, whose: str) -> Alarm | None:
    if consistency.total < CHECKS or not consistency.is_below(LOW_CONSISTENCY):
        return None
    return Alarm(
        "consistency",
        f"{whose} said the same of {consistency.hits:.0f} of {consistency.total} pairs that came a second "
        "time. Where verdicts waver, the guidelines may leave too much open.",
    )


def _alpha(alpha: Alpha) -> Alarm | None:
    if alpha.value is None or alpha.pairs < ALPHA_PAIRS or alpha.value >= LOW_ALPHA:
        return None
    return Alarm(
        "alpha",
        f"Agreement is hardly better than chance (α {alpha.value:.2f} on {alpha.pairs} shared pairs). Look "
        "at the conflicts on the review page and sharpen the guidelines where people read them differently.",
    )


def _left(left: Share, *, whose: str) -> Alarm | None:
    if left.share is None or not (left.is_above(0.5) or left.is_below(0.5)):
        return None
    side, share = ("left", left.share) if left.share > 0.5 else ("right", 1 - left.share)
    return Alarm(
        "left",
        f"{whose} chose the {side} side in {percent(share)} of {left.total} choices. Sides are shuffled, "
        "so this is a habit of the eye; over the whole study it cancels out.",
    )


def _longer(longer: Share, *, whose: str) -> Alarm | None:
    if longer.share is None or not longer.is_above(HIGH_LONGER):
        return None
    return Alarm(
        "longer",
        f"{whose} chose the longer response in {percent(longer.share)} of {longer.total} choices. A model "
        "trained on that learns to write more; say in the guidelines what length is worth.",
    )


def _fast(figures: QualityFigures, *, whose: str) -> Alarm | None:
    seconds = figures.median_seconds
    if seconds is None or figures.timed_labels < TIMED_LABELS or seconds >= FAST_SECONDS:
        return None
    return Alarm(
        "seconds",
        f"{whose} needed {seconds:.1f} s for the median pair. That is hardly enough to read two responses.",
    )


def _often(share: Share, *, figure: str, what: str, level: float, whose: str) -> Alarm | None:
    if share.share is None or not share.is_above(level):
        return None
    return Alarm(
        figure,
        f"{whose} said “{what}” in {percent(share.share)} of {share.total} labels. Such pairs teach little; "
        "sampling at a higher temperature makes responses differ more.",
    )
