"""Win rates and their intervals."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from annotate.quality.intervals import wilson


@dataclass(frozen=True)
class Interval:
    """A share with its 95 % interval, and how many prompts it rests on."""

    share: float
    low: float
    high: float
    prompts: int
    method: str


def wilson_interval(*, wins: float, trials: int) -> Interval:
    """Return the Wilson score interval of a proportion; a tie may count as half a win.

    Wilson 1927, “Probable inference, the law of succession, and statistical inference”.
    Raises ValueError without trials or with wins outside 0 … trials.
    """
    if trials < 1 or not 0 <= wins <= trials:
        raise ValueError(
            f"wins = {wins} of trials = {trials}: wins must lie in 0 … trials and trials be at least 1"
        )
    share = wins / trials
    low, high = wilson(share, trials=trials)
    return Interval(share=share, low=low, high=high, prompts=trials, method="wilson")


def bootstrap_interval(*, shares: Sequence[float], resamples: int = 10_000, seed: int = 0) -> Interval:
    """Return the mean of per-prompt win shares with its percentile bootstrap interval over prompts.

    Several samples of one prompt are not independent coin flips, so whole prompts are resampled
    (Efron 1979). `shares` holds one number in 0 … 1 per prompt. Raises ValueError when it is empty.
    """
    if not shares:
        raise ValueError("shares is empty: a win rate needs at least one prompt")
    values = np.asarray(shares, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[picks].mean(axis=1), [0.025, 0.975])
    return Interval(
        share=float(values.mean()), low=float(low), high=float(high), prompts=len(values), method="bootstrap"
    )


def win_interval(wins_by_prompt: Sequence[Sequence[float]]) -> Interval:
    """Return the win rate over prompts: Wilson for one comparison a prompt, else a bootstrap over prompts.

    `wins_by_prompt` holds, per prompt, the outcome of each comparison: 1 win, ½ tie, 0 loss.
    """
    if all(len(wins) == 1 for wins in wins_by_prompt):
        return wilson_interval(wins=sum(wins[0] for wins in wins_by_prompt), trials=len(wins_by_prompt))
    return bootstrap_interval(shares=[sum(wins) / len(wins) for wins in wins_by_prompt])
