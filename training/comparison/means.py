"""Means over prompts with their intervals. Samples of one prompt are alike, so a prompt counts once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Mean:
    """A mean over `prompts` prompts; `low` and `high` bound its 95 % interval, None with a single prompt."""

    value: float
    low: float | None
    high: float | None
    prompts: int


def mean_over_prompts(values: Iterable[tuple[int, float]]) -> Mean | None:
    """Return the mean of each prompt's own mean, with value ± 1.96 standard errors; None without values.

    `values` are (prompt, value), several per prompt. The interval is the normal one for clusters of equal
    weight: the standard error is that of the prompts' means.
    """
    by_prompt: dict[int, list[float]] = defaultdict(list)
    for prompt, value in values:
        by_prompt[prompt].append(value)
    if not by_prompt:
        return None
    means = [sum(one) / len(one) for one in by_prompt.values()]
    count, mean = len(means), sum(means) / len(means)
    if count < 2:
        return Mean(mean, low=None, high=None, prompts=count)
    half = NORMAL_95 * sqrt(sum((one - mean) ** 2 for one in means) / (count - 1) / count)
    return Mean(mean, low=mean - half, high=mean + half, prompts=count)


def share_over_prompts(values: Iterable[tuple[int, float]]) -> Mean | None:
    """Return the mean share over prompts with its Wilson interval, which also holds at 0 and 1.

    A prompt's own share counts as that part of a success (Wilson 1927). None without values.
    """
    mean = mean_over_prompts(values)
    if mean is None:
        return None
    z2, n = NORMAL_95**2, mean.prompts
    centre = (mean.value + z2 / (2 * n)) / (1 + z2 / n)
    half = NORMAL_95 * sqrt(mean.value * (1 - mean.value) / n + z2 / (4 * n**2)) / (1 + z2 / n)
    low, high = min(mean.value, centre - half), max(mean.value, centre + half)
    return Mean(mean.value, low=max(0.0, low), high=min(1.0, high), prompts=n)
