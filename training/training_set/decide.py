"""What each judged pair comes to under some rules: an example, or the reason why it is none. Pure; no Django.

Everything is an array over the pairs of `VoteColumns`, so that a page can decide fifty thousand of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from annotate.quality.vote_columns import (
    BOTH_BAD,
    LEFT_OUT,
    TIE,
    UNDECIDED,
    A,
    B,
    BoolArray,
    FloatArray,
    IntArray,
    VoteColumns,
)
from training.core.run.config import TIE_LOSSES
from training.training_set.rules import Aggregation, BothBad, Rules, Strength, Ties

# Grades of strength: 1 negligibly, 2 slightly, 3 better, 4 significantly better. Without one it counts as 3.
STRONGEST, BETTER = 4, 3
CONFLICT = -1
EVEN = 0.5


class Outcome(IntEnum):
    """What became of a pair; the first three are examples."""

    PREFERENCE = 0
    TIE = 1
    HALF = 2
    TIED = 3
    BOTH_BAD = 4
    CONFLICTING = 5
    WEAK = 6
    ALIKE = 7
    OLDER = 8
    LEFT_OUT_BY_LEAD = 9
    UNLABELLED = 10

    @property
    def is_example(self) -> bool:
        return self <= Outcome.HALF


@dataclass(frozen=True)
class Decisions:
    """Per pair, shape (pairs,): its `Outcome`, whether B is the chosen one, P(chosen is better), weight.

    `p` and `weights` say nothing of pairs that are no examples.
    """

    outcomes: IntArray
    b_is_chosen: BoolArray
    p: FloatArray
    weights: FloatArray

    @property
    def used(self) -> BoolArray:
        return self.outcomes <= Outcome.HALF


def decide(
    columns: VoteColumns, *, rules: Rules, loss: str, newest: int, alike: BoolArray | None = None
) -> Decisions:
    """Return what the pairs come to in the training set of round `newest`; `alike` marks near-duplicates."""
    leaning = (_soft if rules.is_soft else _majority)(columns, rules=rules)
    outcomes = _outcomes(leaning, rules=rules, loss=loss)
    strengths = columns.mean_strength
    if rules.strength == Strength.CLEAR:
        weak = (strengths < BETTER) & (outcomes == Outcome.PREFERENCE) & (columns.decisions == UNDECIDED)
        outcomes[weak] = Outcome.WEAK
    rounds, place = np.unique(columns.batches, return_inverse=True)
    weights = np.array([rules.weight_of(batch, newest=newest) for batch in rounds.tolist()])[place]
    for outcome, where in (
        (Outcome.ALIKE, alike),
        (Outcome.OLDER, weights == 0),
        (Outcome.UNLABELLED, (columns.votes == 0) & (columns.decisions == UNDECIDED)),
        (Outcome.LEFT_OUT_BY_LEAD, columns.decisions == LEFT_OUT),
    ):
        if where is not None:
            outcomes[where] = outcome
    if rules.strength == Strength.WEIGH:
        graded = np.where(np.isnan(strengths), BETTER, strengths) / STRONGEST
        weights = np.where(outcomes == Outcome.PREFERENCE, weights * graded, weights)
    b_is_chosen = (leaning.verdicts == B) & (outcomes == Outcome.PREFERENCE)
    p = np.where(outcomes == Outcome.HALF, EVEN, np.where(outcomes == Outcome.TIE, 1.0, leaning.p))
    return Decisions(outcomes=outcomes, b_is_chosen=b_is_chosen, p=p, weights=weights)


@dataclass(frozen=True)
class _Leaning:
    """Where the votes, or a lead's verdict, lean: the place in CLASSES or CONFLICT, and P(it is right)."""

    verdicts: IntArray
    p: FloatArray


def _majority(columns: VoteColumns, *, rules: Rules) -> _Leaning:
    """The verdict that most votes share; CONFLICT where two lead alike."""
    tallies = _both_bad_as_ties(columns.tallies, rules=rules)
    leading = tallies == tallies.max(axis=1, keepdims=True)
    verdicts = np.where(leading.sum(axis=1) == 1, tallies.argmax(axis=1), CONFLICT)
    return _with_decisions(columns, _Leaning(verdicts, np.ones(len(verdicts))), rules=rules)


def _soft(columns: VoteColumns, *, rules: Rules) -> _Leaning:
    """The likelier side with its probability among A and B, unless "neither" is likelier than both together.

    Where ties are trained at p = ½, a vote for a tie is half a vote for each side.
    """
    shares = columns.shares() if rules.aggregation == Aggregation.SHARE else columns.reliable_shares()
    shares = _both_bad_as_ties(shares, rules=rules)
    if rules.ties == Ties.HALF:
        shares = shares + shares[:, [TIE]] * np.array([EVEN, EVEN, -1.0, 0.0])
    sides = shares[:, A] + shares[:, B]
    p_of_a = np.divide(shares[:, A], sides, out=np.full(len(sides), EVEN), where=sides > 0)
    neither = np.maximum(shares[:, TIE], shares[:, BOTH_BAD])
    verdicts = np.where(p_of_a >= EVEN, A, B)
    verdicts[(neither == sides) | ((neither > sides) & (shares[:, TIE] == shares[:, BOTH_BAD]))] = CONFLICT
    verdicts[(shares[:, TIE] > sides) & (shares[:, TIE] > shares[:, BOTH_BAD])] = TIE
    verdicts[(shares[:, BOTH_BAD] > sides) & (shares[:, BOTH_BAD] > shares[:, TIE])] = BOTH_BAD
    return _with_decisions(columns, _Leaning(verdicts, np.maximum(p_of_a, 1 - p_of_a)), rules=rules)


def _both_bad_as_ties(counts: FloatArray | IntArray, *, rules: Rules) -> FloatArray:
    moved = counts.astype(np.float64)
    if rules.both_bad == BothBad.TIE:
        moved[:, TIE] += moved[:, BOTH_BAD]
        moved[:, BOTH_BAD] = 0
    return moved


def _with_decisions(columns: VoteColumns, leaning: _Leaning, *, rules: Rules) -> _Leaning:
    """Let a lead's verdict go before the votes."""
    decided = columns.decisions >= 0
    verdicts = np.where(decided, columns.decisions, leaning.verdicts)
    if rules.both_bad == BothBad.TIE:
        verdicts[decided & (verdicts == BOTH_BAD)] = TIE
    return _Leaning(verdicts, np.where(decided, 1.0, leaning.p))


def _outcomes(leaning: _Leaning, *, rules: Rules, loss: str) -> IntArray:
    ties = Outcome.TIED
    if rules.ties == Ties.HALF:
        ties = Outcome.HALF
    elif rules.ties == Ties.LEARN and loss in TIE_LOSSES:
        ties = Outcome.TIE
    of_verdict = {
        A: Outcome.PREFERENCE,
        B: Outcome.PREFERENCE,
        TIE: ties,
        BOTH_BAD: Outcome.BOTH_BAD,
        CONFLICT: Outcome.CONFLICTING,
    }
    outcomes = np.array([of_verdict[verdict] for verdict in sorted(of_verdict)], dtype=np.int64)[
        leaning.verdicts - CONFLICT
    ]
    outcomes[(outcomes == Outcome.PREFERENCE) & (leaning.p == EVEN)] = Outcome.HALF
    return outcomes
