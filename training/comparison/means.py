"""Means over prompts with their intervals. Samples of one prompt are alike, so a prompt counts once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from annotate.quality.intervals import NORMAL_95, wilson


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

    A prompt's own share counts as that part of a success. None without values.
    """
    mean = mean_over_prompts(values)
    if mean is None:
        return None
    low, high = wilson(mean.value, trials=mean.prompts)
    return Mean(mean.value, low=max(0.0, low), high=min(1.0, high), prompts=mean.prompts)
