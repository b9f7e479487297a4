"""All votes of a study's training pairs as probabilities: for losses that learn from soft labels and ties."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from annotate.models import Study
from annotate.quality.vote_columns import BOTH_BAD, LEFT_OUT, TIE, A, B, VoteColumns
from annotate.selectors.preferences import LabelUsage
from annotate.selectors.vote_columns import vote_columns

CONFLICTING, UNLABELLED = -10, -11


@dataclass(frozen=True, slots=True)
class PairProbability:
    """What all votes on one pair say of it.

    `share_a` and `p` are probabilities that response A is the better one, among A and B alone: the first
    counts each vote alike, the second weighs it by its annotator's reliability; 0.5 when nobody chose a side.
    `tie` is the reliability-weighted probability that neither is better (a tie, or both bad), `both_bad` the
    part of it that both are bad. `strength` is the mean of the grades 1 … 4, None where none was given.
    """

    pair_id: int
    votes: int
    a: int
    b: int
    ties: int
    share_a: float
    p: float
    tie: float
    both_bad: float
    strength: float | None


def pair_probabilities(*, study: Study, batches: Iterable[int] | None = None) -> list[PairProbability]:
    """Return the probabilities of every labelled training pair, in the order of ids.

    Votes of members who are left out of training sets do not count; pairs that only they judged are missing.
    """
    return probabilities_of(vote_columns(study=study, batches=batches))


def probabilities_of(columns: VoteColumns) -> list[PairProbability]:
    """Return what the votes on each pair that has some say together; pure."""
    tallies, weighted = columns.tallies, columns.reliable_shares()
    votes, sides = tallies.sum(axis=1), tallies[:, A] + tallies[:, B]
    strengths = columns.mean_strength
    neither = np.full(len(votes), 0.5)
    share_a = np.divide(tallies[:, A], sides, out=neither.copy(), where=sides > 0)
    weight = weighted[:, A] + weighted[:, B]
    p = np.divide(weighted[:, A], weight, out=neither.copy(), where=sides > 0)
    table = {
        "pair_id": columns.pair_ids,
        "votes": votes,
        "a": tallies[:, A],
        "b": tallies[:, B],
        "ties": votes - sides,
        "share_a": share_a,
        "p": p,
        "tie": weighted[:, TIE] + weighted[:, BOTH_BAD],
        "both_bad": weighted[:, BOTH_BAD],
        "strength": np.array([None if math.isnan(mean) else mean for mean in strengths.tolist()]),
    }
    voted = votes > 0
    return [
        PairProbability(*row) for row in zip(*(table[name][voted].tolist() for name in table), strict=True)
    ]


def usage_of(columns: VoteColumns, *, pairs: int) -> LabelUsage:
    """Return what a training set can make of `pairs` pairs, those of the columns among them; pure.

    The same as `annotate.selectors.preferences.label_usage` counts in the database.
    """
    tallies = columns.tallies
    most = tallies.max(axis=1, initial=0)
    leads_alone = (tallies == most[:, np.newaxis]).sum(axis=1) == 1
    outcomes = np.where(leads_alone, tallies.argmax(axis=1), CONFLICTING)
    outcomes[most == 0] = UNLABELLED
    decided = (columns.decisions >= 0) | (columns.decisions == LEFT_OUT)
    counts = Counter(np.where(decided, columns.decisions, outcomes).tolist())
    return LabelUsage(
        pairs=pairs,
        unlabelled=counts[UNLABELLED] + pairs - len(columns.pair_ids),
        usable=counts[A] + counts[B],
        tied=counts[TIE],
        both_bad=counts[BOTH_BAD],
        conflicting=counts[CONFLICTING],
        left_out=counts[LEFT_OUT],
    )
