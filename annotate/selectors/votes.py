"""All votes of a study's training pairs as probabilities: for losses that learn from soft labels and ties."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from annotate.models import Study, Verdict
from annotate.quality.dawid_skene import dawid_skene
from annotate.selectors.preferences import PairVotes, Vote, labelled_pairs

CLASSES = tuple(Verdict)
PLACE = {verdict: place for place, verdict in enumerate(CLASSES)}


@dataclass(frozen=True)
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
    judged = labelled_pairs(study=study, batches=batches)
    return probabilities_of([pair for pair in judged if pair.votes])


def probabilities_of(judged: Sequence[PairVotes]) -> list[PairProbability]:
    """Return what the votes on these pairs say together; pure. Every pair must have a vote."""
    if not judged:
        return []
    votes = [(place, vote) for place, pair in enumerate(judged) for vote in pair.votes]
    people = {person: place for place, person in enumerate(sorted({vote.annotator_id for _, vote in votes}))}
    consensus = dawid_skene(
        pairs=np.array([place for place, _ in votes]),
        annotators=np.array([people[vote.annotator_id] for _, vote in votes]),
        verdicts=np.array([PLACE[vote.verdict] for _, vote in votes]),
        classes=len(CLASSES),
    )
    return [
        _probability(pair, weighted=[float(value) for value in row])
        for pair, row in zip(judged, consensus.probabilities, strict=True)
    ]


def _probability(judged: PairVotes, *, weighted: Sequence[float]) -> PairProbability:
    a, b = _count(judged.votes, Verdict.A), _count(judged.votes, Verdict.B)
    weight_a, weight_b = weighted[PLACE[Verdict.A]], weighted[PLACE[Verdict.B]]
    grades = [vote.strength for vote in judged.votes if vote.strength is not None]
    return PairProbability(
        pair_id=judged.pair.pk,
        votes=len(judged.votes),
        a=a,
        b=b,
        ties=len(judged.votes) - a - b,
        share_a=a / (a + b) if a + b else 0.5,
        p=weight_a / (weight_a + weight_b) if a + b else 0.5,
        tie=weighted[PLACE[Verdict.TIE]] + weighted[PLACE[Verdict.BOTH_BAD]],
        both_bad=weighted[PLACE[Verdict.BOTH_BAD]],
        strength=sum(grades) / len(grades) if grades else None,
    )


def _count(votes: Iterable[Vote], verdict: Verdict) -> int:
    return sum(vote.verdict == verdict for vote in votes)
