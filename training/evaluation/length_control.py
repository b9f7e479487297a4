"""A win rate as it would be at equal length, after the idea of AlpacaEval's length-controlled one. No Django.

P(win) = σ(θ + φ·tanh(d/s)), d being the tokens of the policy's response minus the opponent's and s the
standard deviation of d. The length-controlled win rate is σ(θ): what is left when the lengths are the same.
Dubois et al. 2024 (arXiv:2404.04475) fit more terms, to thousands of verdicts; this is the simplest form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import expit

from training.evaluation.fits import Floats, fit_logistic, fit_many, resampled_counts
from training.evaluation.outcomes import Outcome

RESAMPLES = 300
FEWEST_PROMPTS = 20
RIDGE = np.array([0.02, 0.2])


@dataclass(frozen=True)
class LengthControlled:
    """The length-controlled win rate, or in `sentence` why there is none."""

    share: float | None
    low: float | None
    high: float | None
    sentence: str
    length_effect: float | None = None


Rows = tuple[tuple[int, float, float, int], ...]


def length_controlled(outcomes: Sequence[Outcome]) -> LengthControlled:
    """Return the win rate at equal length, with its 95 % interval by bootstrap over prompts."""
    judged = [row for row in outcomes if row.judged]
    rows = tuple((row.prompt, row.points, float(row.judged), row.length_difference) for row in judged)
    prompts = len({row[0] for row in rows})
    if prompts < FEWEST_PROMPTS:
        return _undefined(f"It takes {FEWEST_PROMPTS} judged prompts; there are {prompts}.")
    differences = {row[3] for row in rows}
    if len(differences) < 2:
        return _undefined("All pairs differ in length by the same, so its part cannot be told.")
    if min(differences) > 0 or max(differences) < 0:
        side = "longer" if min(differences) > 0 else "shorter"
        return _undefined(
            f"Every response of the policy is {side} than its opponent's: nothing shows what would happen at "
            "equal length."
        )
    return _fitted(rows)


@lru_cache(maxsize=512)
def _fitted(rows: Rows) -> LengthControlled:
    differences = np.array([row[3] for row in rows], dtype=np.float64)
    design = np.column_stack([np.ones(len(rows)), np.tanh(differences / differences.std())])
    points, trials = (np.array([row[place] for row in rows]) for place in (1, 2))
    theta = fit_logistic(design, points=points, trials=trials, ridge=RIDGE)
    weights = _row_weights(rows)
    many = fit_many(design, points=weights * points, trials=weights * trials, ridge=RIDGE, start=theta)
    low, high = np.quantile(expit(many[:, 0]), [0.025, 0.975])
    share = float(expit(theta[0]))
    return LengthControlled(
        share=share,
        low=float(min(low, share)),
        high=float(max(high, share)),
        sentence="",
        length_effect=float(theta[1]),
    )


def _row_weights(rows: Rows) -> Floats:
    """Return how often each row counts in each resample of whole prompts: (resamples, rows)."""
    prompts = {prompt: number for number, prompt in enumerate(sorted({row[0] for row in rows}))}
    draws = resampled_counts(len(prompts), resamples=RESAMPLES)
    weights: Floats = draws[:, [prompts[row[0]] for row in rows]]
    return weights


def _undefined(sentence: str) -> LengthControlled:
    return LengthControlled(None, None, None, sentence)
