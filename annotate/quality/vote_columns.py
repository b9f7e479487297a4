"""The votes on many pairs as columns of numbers, so that counting fifty thousand takes milliseconds. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from annotate.quality.dawid_skene import dawid_skene

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# The verdicts as the database writes them.
CLASSES = ("a", "b", "tie", "both_bad")
PLACE = {verdict: place for place, verdict in enumerate(CLASSES)}
A, B, TIE, BOTH_BAD = range(len(CLASSES))
UNDECIDED, LEFT_OUT = -1, -2


@dataclass(frozen=True)
class VoteColumns:
    """Votes that count, and the pairs that they, ignored votes or a lead's decision are about.

    Per pair, in the order of ids, shape (pairs,): `pair_ids`, `batches`, and `decisions`, a lead's: the
    place of the verdict in CLASSES, UNDECIDED or LEFT_OUT. Per vote, shape (votes,): `pairs` is the place of
    its pair, `annotators` the user's id, `verdicts` the place in CLASSES, `strengths` the grade 1 … 4, 0
    without one. `ignored` counts the votes of people who are left out; `simulated` those that count by rule.
    """

    pair_ids: IntArray
    batches: IntArray
    decisions: IntArray
    pairs: IntArray
    annotators: IntArray
    verdicts: IntArray
    strengths: IntArray
    ignored: int
    simulated: dict[str, int]

    @property
    def tallies(self) -> IntArray:
        """How many votes of each pair say what, shape (pairs, classes)."""
        size = len(CLASSES)
        counted = np.bincount(self.pairs * size + self.verdicts, minlength=len(self.pair_ids) * size)
        return counted.reshape(-1, size).astype(np.int64)

    @property
    def votes(self) -> IntArray:
        """How many votes each pair has, shape (pairs,)."""
        return np.bincount(self.pairs, minlength=len(self.pair_ids)).astype(np.int64)

    @property
    def mean_strength(self) -> FloatArray:
        """The mean grade of each pair, shape (pairs,); nan where nobody graded it."""
        graded = np.bincount(self.pairs[self.strengths > 0], minlength=len(self.pair_ids))
        total = np.bincount(self.pairs, weights=self.strengths, minlength=len(self.pair_ids))
        mean: FloatArray = np.divide(total, graded, out=np.full(len(total), np.nan), where=graded > 0)
        return mean

    def shares(self) -> FloatArray:
        """The share of votes for each verdict, shape (pairs, classes); zeros for a pair without votes."""
        tallies = self.tallies
        shares: FloatArray = tallies / np.maximum(tallies.sum(axis=1, keepdims=True), 1)
        return shares

    def reliable_shares(self) -> FloatArray:
        """The probability of each verdict, votes weighed by their annotators' reliability, shape as `shares`.

        Zeros for a pair without votes.
        """
        probabilities = np.zeros((len(self.pair_ids), len(CLASSES)))
        if len(self.pairs):
            voted, places = np.unique(self.pairs, return_inverse=True)
            people = np.unique(self.annotators, return_inverse=True)[1]
            found = dawid_skene(pairs=places, annotators=people, verdicts=self.verdicts, classes=len(CLASSES))
            probabilities[voted] = found.probabilities
        return probabilities
