"""What several annotators' verdicts say together, each weighed by how reliable it has proved.

Dawid & Skene 1979, “Maximum likelihood estimation of observer error-rates using the EM algorithm”: the true
verdict of each pair is hidden; each annotator has a confusion matrix; EM estimates both. Dirichlet priors
(maximum a posteriori instead of maximum likelihood) keep one annotator, or one vote, from degenerating into
certainty: with little data a pair's probabilities stay between the plain share and the prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Pseudo-votes of each row of an annotator's confusion matrix: somebody unknown is right three times in four.
PRIOR_VOTES = 8.0
PRIOR_RIGHT = 0.75
MAX_ROUNDS = 100
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Consensus:
    """The estimate.

    `probabilities` (pairs, classes): of each true verdict. `confusion` (annotators, classes, classes): how
    often an annotator says j when i is true. `prevalence` (classes,): how common each true verdict is.
    """

    probabilities: FloatArray
    confusion: FloatArray
    prevalence: FloatArray
    rounds: int
    converged: bool

    @property
    def reliability(self) -> FloatArray:
        """How often each annotator is right, over verdicts as common as here; shape (annotators,)."""
        right: FloatArray = np.einsum("aii,i->a", self.confusion, self.prevalence)
        return right


def dawid_skene(*, pairs: IntArray, annotators: IntArray, verdicts: IntArray, classes: int) -> Consensus:
    """Estimate the true verdicts from votes, three arrays of the same length: indices from 0 without gaps.

    Raises ValueError without votes or when the lengths differ.
    """
    if not len(pairs) or not len(pairs) == len(annotators) == len(verdicts):
        raise ValueError(
            f"{len(pairs)} pairs, {len(annotators)} annotators, {len(verdicts)} verdicts: "
            "one of each per vote, and at least one vote"
        )
    probabilities = _shares(pairs, verdicts=verdicts, classes=classes)
    size = int(annotators.max()) + 1
    for round_number in range(1, MAX_ROUNDS + 1):
        confusion = _confusion(
            probabilities, pairs=pairs, annotators=annotators, verdicts=verdicts, size=size
        )
        prevalence = (probabilities.sum(axis=0) + 1.0) / (len(probabilities) + classes)
        updated = _expected(
            confusion, prevalence=prevalence, pairs=pairs, annotators=annotators, verdicts=verdicts
        )
        change = float(np.abs(updated - probabilities).max())
        probabilities = updated
        if change < TOLERANCE:
            return Consensus(probabilities, confusion, prevalence, rounds=round_number, converged=True)
    return Consensus(probabilities, confusion, prevalence, rounds=MAX_ROUNDS, converged=False)


def _shares(pairs: IntArray, *, verdicts: IntArray, classes: int) -> FloatArray:
    counts = np.zeros((int(pairs.max()) + 1, classes))
    np.add.at(counts, (pairs, verdicts), 1.0)
    shares: FloatArray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _prior(classes: int) -> FloatArray:
    wrong = PRIOR_VOTES * (1 - PRIOR_RIGHT) / max(1, classes - 1)
    prior: FloatArray = np.full((classes, classes), wrong)
    np.fill_diagonal(prior, PRIOR_VOTES * PRIOR_RIGHT)
    return prior


def _confusion(
    probabilities: FloatArray, *, pairs: IntArray, annotators: IntArray, verdicts: IntArray, size: int
) -> FloatArray:
    """M step: expected votes per annotator, true and given verdict, plus the prior's; rows sum to 1."""
    classes = probabilities.shape[1]
    votes = np.tile(_prior(classes), (size, 1, 1))
    np.add.at(votes.transpose(0, 2, 1), (annotators, verdicts), probabilities[pairs])
    confusion: FloatArray = votes / votes.sum(axis=2, keepdims=True)
    return confusion


def _expected(
    confusion: FloatArray,
    *,
    prevalence: FloatArray,
    pairs: IntArray,
    annotators: IntArray,
    verdicts: IntArray,
) -> FloatArray:
    """E step: P(true verdict | votes) of each pair, in logarithms so that many votes do not underflow."""
    logs = np.tile(np.log(prevalence), (int(pairs.max()) + 1, 1))
    np.add.at(logs, pairs, np.log(confusion[annotators, :, verdicts]))
    logs -= logs.max(axis=1, keepdims=True)
    weights = np.exp(logs)
    expected: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return expected
