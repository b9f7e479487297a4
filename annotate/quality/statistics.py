"""Figures of label quality as pure functions: shares with intervals, agreement, and why one is undefined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import krippendorff
import numpy as np

from annotate.models import Verdict
from annotate.quality.intervals import wilson

VERDICTS = tuple(verdict.value for verdict in Verdict)

# How often each verdict was given to one pair, in the order of VERDICTS.
Tally = tuple[int, int, int, int]


@dataclass(frozen=True)
class Share:
    """A plain proportion with its 95 % Wilson interval; all three are None without trials."""

    hits: float
    total: int
    share: float | None
    low: float | None
    high: float | None

    def is_below(self, level: float) -> bool:
        """Return whether the whole interval lies below `level`."""
        return self.high is not None and self.high < level

    def is_above(self, level: float) -> bool:
        """Return whether the whole interval lies above `level`."""
        return self.low is not None and self.low > level


@dataclass(frozen=True)
class Alpha:
    """Krippendorff's α (nominal) over `pairs` pairs with two votes or more; `reason` says why it is None."""

    value: float | None
    pairs: int
    reason: str = ""


def share_of(*, hits: float, total: int) -> Share:
    """Return hits/total with its Wilson score interval (Wilson 1927); a half hit is possible.

    Raises ValueError when hits lie outside 0 … total.
    """
    if not 0 <= hits <= total:
        raise ValueError(f"hits = {hits} of total = {total}: hits must lie in 0 … total")
    if total == 0:
        return Share(hits=hits, total=0, share=None, low=None, high=None)
    low, high = wilson(hits / total, trials=total)
    return Share(hits=hits, total=total, share=hits / total, low=low, high=high)


def raw_agreement(tallies: Mapping[Tally, int]) -> Share:
    """Return the share of pairs of votes on the same pair that say the same.

    `tallies` counts the pairs of the study by how their votes fell. Σ n(n−1)/2 over verdicts, divided by the
    same of all votes.
    """
    agreeing = sum(
        pairs * sum(votes * (votes - 1) // 2 for votes in tally) for tally, pairs in tallies.items()
    )
    compared = sum(pairs * sum(tally) * (sum(tally) - 1) // 2 for tally, pairs in tallies.items())
    return share_of(hits=agreeing, total=compared)


def krippendorff_alpha(tallies: Mapping[Tally, int]) -> Alpha:
    """Return Krippendorff's α of nominal verdicts; 1 is agreement, 0 what chance alone would give.

    Hayes & Krippendorff 2007; computed by the library `krippendorff`. Undefined, with a reason, without two
    votes on one pair, and where only one verdict was ever given: chance and agreement cannot be told apart.
    """
    shared = {tally: pairs for tally, pairs in tallies.items() if sum(tally) >= 2}
    pairs = sum(shared.values())
    if not pairs:
        return Alpha(value=None, pairs=0, reason="needs two people on the same pair; 0 pairs have that")
    used = [any(tally[place] for tally in shared) for place in range(len(VERDICTS))]
    if sum(used) < 2:
        only = Verdict(VERDICTS[used.index(True)]).label
        return Alpha(
            value=None,
            pairs=pairs,
            reason=f"every vote says “{only}”; without variety chance agreement is total",
        )
    counts = np.repeat(
        np.array(list(shared), dtype=np.int64), np.array(list(shared.values()), dtype=np.int64), axis=0
    )
    value = krippendorff.alpha(value_counts=counts[:, used], level_of_measurement="nominal")
    return Alpha(value=float(value), pairs=pairs)


def median(values: Sequence[float]) -> float | None:
    """Return the median, None of nothing."""
    return float(np.median(values)) if len(values) else None
