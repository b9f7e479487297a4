"""Win rates with ties at half, their intervals, and how many more verdicts a narrower one takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import numpy as np

from annotate.quality.intervals import NORMAL_95
from training.evaluation.outcomes import Outcome, Tally, shares_by_prompt, tally_of
from training.statistics import Interval, bootstrap_interval, wilson_interval

RESAMPLES = 2_000
# With fewer prompts, or with prompts that all say the same, resampling them shows too little of what may be.
FEWEST_FOR_BOOTSTRAP = 20
# Shares of prompts in 0 … 1 vary by at most this much (a fair coin's standard deviation).
WIDEST_DEVIATION = 0.5


@dataclass(frozen=True)
class WinRate:
    """How often a policy beats an opponent; `interval` is None before the first usable verdict."""

    tally: Tally
    interval: Interval | None
    needed: int | None

    @property
    def share(self) -> float | None:
        return self.interval.share if self.interval else None


def win_rate(outcomes: Sequence[Outcome], *, half_width: float) -> WinRate:
    """Return the mean over prompts of the share of wins, ties at half, with its 95 % interval.

    `needed` is how many more prompts' verdicts bring the interval to ± `half_width`, None without a verdict.
    """
    shares = tuple(shares_by_prompt(outcomes).values())
    return WinRate(
        tally=tally_of(outcomes),
        interval=prompt_interval(shares) if shares else None,
        needed=verdicts_needed(shares, half_width=half_width) if shares else None,
    )


# Keyed by what it is computed from: a verdict more recomputes the one comparison that it belongs to.
@lru_cache(maxsize=1024)
def prompt_interval(shares: tuple[float, ...]) -> Interval:
    """Return the mean share of prompts with its 95 % interval by bootstrap over prompts (Efron 1979).

    Where that would claim too much (fewer than twenty prompts, or all alike) it is Wilson's interval with a
    prompt as one trial. Raises ValueError when `shares` is empty.
    """
    few = len(shares) < FEWEST_FOR_BOOTSTRAP
    if shares and (few or len(set(shares)) == 1):
        return wilson_interval(wins=sum(shares), trials=len(shares))
    return bootstrap_interval(shares=shares, resamples=RESAMPLES)


def verdicts_needed(shares: Sequence[float], *, half_width: float) -> int:
    """Return how many more prompts have to be judged for an interval of ± `half_width` at 95 %.

    n = (1.96·s / half_width)² with the prompts' own standard deviation s, or with ½ (the widest possible)
    while there are too few to tell. Raises ValueError for a half-width that is not above 0.
    """
    if half_width <= 0:
        raise ValueError(f"half_width = {half_width} must be above 0; 0.1 is usual")
    enough = len(shares) >= FEWEST_FOR_BOOTSTRAP and len(set(shares)) > 1
    deviation = float(np.std(shares, ddof=1)) if enough else WIDEST_DEVIATION
    return max(0, ceil((NORMAL_95 * deviation / half_width) ** 2) - len(shares))
