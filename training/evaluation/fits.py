"""Logistic models fitted for many weightings of the same rows at once: what a bootstrap asks for. No Django.

The fit of a single weighting is SciPy's; the resamples start from it and take Newton steps together.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

Floats = NDArray[np.float64]
NEWTON_STEPS = 12
LONGEST_STEP = 2.0


def fit_logistic(design: Floats, *, points: Floats, trials: Floats, ridge: Floats) -> Floats:
    """Return the coefficients θ (columns of `design`) of points/trials ~ Bernoulli(σ(design·θ)).

    `design` is (rows, columns); `points` and `trials` (rows,) may be fractional (a tie is half a point);
    `ridge` (columns,) is the penalty ½·ridge·θ². Raises ValueError when SciPy finds no minimum.
    """

    def loss(theta: Floats) -> Any:
        scores = design @ theta
        likelihood = points * np.logaddexp(0.0, -scores) + (trials - points) * np.logaddexp(0.0, scores)
        return likelihood.sum() + 0.5 * (ridge * theta**2).sum()

    def slope(theta: Floats) -> Floats:
        result: Floats = design.T @ (trials * expit(design @ theta) - points) + ridge * theta
        return result

    found = minimize(loss, np.zeros(design.shape[1]), jac=slope, method="BFGS", options={"gtol": 1e-7})
    theta: Floats = found.x
    if np.abs(slope(theta)).max() > 1e-3 * max(1.0, float(trials.sum())):
        raise ValueError(f"the fit did not converge: {found.message}")
    return theta


def fit_many(design: Floats, *, points: Floats, trials: Floats, ridge: Floats, start: Floats) -> Floats:
    """Return the coefficients of many weightings: `points`, `trials` (fits, rows) → (fits, columns).

    Newton's method from `start` (columns,), all fits together; ridge above 0 keeps each step defined.
    """
    theta = np.tile(start, (len(points), 1))
    penalty = np.diag(ridge)
    for _ in range(NEWTON_STEPS):
        mean = expit(theta @ design.T)
        slope = (trials * mean - points) @ design + theta * ridge
        weight = trials * mean * (1.0 - mean)
        curvature = np.einsum("fr,ri,rj->fij", weight, design, design, optimize=True) + penalty
        step = np.linalg.solve(curvature, slope[..., None])[..., 0]
        theta -= np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if float(np.abs(step).max()) < 1e-6:
            break
    return theta


# The draws are the same for the same size; whoever gets them must not write into them.
@lru_cache(maxsize=8)
def resampled_counts(size: int, *, resamples: int, seed: int = 0) -> Floats:
    """Return how often each of `size` items is drawn in each bootstrap resample: (resamples, size)."""
    picks = np.random.default_rng(seed).integers(0, size, size=(resamples, size))
    offsets = picks + np.arange(resamples)[:, None] * size
    counts = np.bincount(offsets.ravel(), minlength=resamples * size).reshape(resamples, size)
    drawn: Floats = counts.astype(np.float64)
    drawn.setflags(write=False)
    return drawn
