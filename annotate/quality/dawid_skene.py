"""What several annotators' verdicts say together, each weighed by how reliable it has proved.

Dawid & Skene 1979, “Maximum likelihood estimation of observer error-rates using the EM algorithm”: the true
verdict of each pair is hidden; each annotator has a confusion matrix; EM estimates both. Dirichlet priors
(maximum a posteriori instead of maximum likelihood) keep one annotator, or one vote, from degenerating into
certainty: with little data a pair's probabilities stay between the plain share and the prior.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    kinds = _kinds_of_pairs(pairs, annotators=annotators, verdicts=verdicts, classes=classes)
    found = _estimate(kinds, size=int(annotators.max()) + 1, classes=classes)
    return replace(found, probabilities=found.probabilities[kinds.of_pair])


@dataclass(frozen=True)
class _Kinds:
    """Pairs on which the same people said the same are of one kind and end with the same probabilities.

    `of_pair` (pairs,) is each pair's kind, `counts` (kinds,) how many pairs a kind has; `kinds`, `annotators`
    and `verdicts` are the votes of one pair of each kind.
    """

    of_pair: IntArray
    counts: FloatArray
    kinds: IntArray
    annotators: IntArray
    verdicts: IntArray


def _kinds_of_pairs(pairs: IntArray, *, annotators: IntArray, verdicts: IntArray, classes: int) -> _Kinds:
    codes = annotators * classes + verdicts
    order = np.lexsort((codes, pairs))
    ordered, codes = pairs[order], codes[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    places = np.arange(len(ordered)) - np.repeat(starts, np.diff(starts, append=len(ordered)))
    said = np.full((len(starts), int(places.max()) + 1), -1)
    said[ordered, places] = codes
    different, of_pair, counts = np.unique(said, axis=0, return_inverse=True, return_counts=True)
    kinds, columns = np.nonzero(different >= 0)
    votes = different[kinds, columns]
    return _Kinds(of_pair.reshape(-1), counts.astype(np.float64), kinds, votes // classes, votes % classes)


def _estimate(kinds: _Kinds, *, size: int, classes: int) -> Consensus:
    """EM over the kinds of pairs; `probabilities` of the result are per kind."""
    probabilities = _shares(kinds, classes=classes)
    for round_number in range(1, MAX_ROUNDS + 1):
        confusion = _confusion(probabilities, kinds=kinds, size=size)
        prevalence = (kinds.counts @ probabilities + 1.0) / (kinds.counts.sum() + classes)
        updated = _expected(confusion, prevalence=prevalence, kinds=kinds)
        change = float(np.abs(updated - probabilities).max())
        probabilities = updated
        if change < TOLERANCE:
            return Consensus(probabilities, confusion, prevalence, rounds=round_number, converged=True)
    return Consensus(probabilities, confusion, prevalence, rounds=MAX_ROUNDS, converged=False)


def _shares(kinds: _Kinds, *, classes: int) -> FloatArray:
    counts = np.zeros((len(kinds.counts), classes))
    np.add.at(counts, (kinds.kinds, kinds.verdicts), 1.0)
    shares: FloatArray = counts / counts.sum(axis=1, keepdims=True)
    return shares


def _prior(classes: int) -> FloatArray:
    wrong = PRIOR_VOTES * (1 - PRIOR_RIGHT) / max(1, classes - 1)
    prior: FloatArray = np.full((classes, classes), wrong)
    np.fill_diagonal(prior, PRIOR_VOTES * PRIOR_RIGHT)
    return prior


def _confusion(probabilities: FloatArray, *, kinds: _Kinds, size: int) -> FloatArray:
    """M step: expected votes per annotator, true and given verdict, plus the prior's; rows sum to 1."""
    classes = probabilities.shape[1]
    votes = np.tile(_prior(classes), (size, 1, 1))
    weighted = probabilities * kinds.counts[:, np.newaxis]
    np.add.at(votes.transpose(0, 2, 1), (kinds.annotators, kinds.verdicts), weighted[kinds.kinds])
    confusion: FloatArray = votes / votes.sum(axis=2, keepdims=True)
    return confusion


def _expected(confusion: FloatArray, *, prevalence: FloatArray, kinds: _Kinds) -> FloatArray:
    """E step: P(true verdict | votes) of each kind, in logarithms so that many votes do not underflow."""
    logs = np.tile(np.log(prevalence), (len(kinds.counts), 1))
    np.add.at(logs, kinds.kinds, np.log(confusion[kinds.annotators, :, kinds.verdicts]))
    logs -= logs.max(axis=1, keepdims=True)
    weights = np.exp(logs)
    expected: FloatArray = weights / weights.sum(axis=1, keepdims=True)
    return expected
