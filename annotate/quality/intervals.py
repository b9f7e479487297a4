"""Intervals of proportions; pure."""

from math import sqrt

NORMAL_95 = 1.959963984540054


def wilson(share: float, *, trials: int) -> tuple[float, float]:
    """Return the ends of the 95 % Wilson score interval of a proportion of at least one trial.

    Wilson 1927, “Probable inference, the law of succession, and statistical inference”.
    """
    z2 = NORMAL_95**2
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_95 * sqrt(share * (1 - share) / trials + z2 / (4 * trials**2)) / (1 + z2 / trials)
    # At the ends rounding would leave the interval a hair short of the share itself.
    return min(share, centre - half), max(share, centre + half)
