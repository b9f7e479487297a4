"""How the votes on shared pairs fell, counted in the database: a few rows, however many labels there are."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import connection

from annotate.models import Pair, Preference, Study
from annotate.quality.statistics import (
    VERDICTS,
    Alpha,
    Share,
    Tally,
    krippendorff_alpha,
    raw_agreement,
    share_of,
)
from annotate.selectors.frozen_votes import KeptVotes

# One row per annotator, verdict and outcome of the pair's votes. Reserved copies have one vote each; every
# vote takes a slot, so only pairs with two slots taken are read.
TALLIES = """
    SELECT mine.annotator_id, mine.verdict, tally.a, tally.b, tally.tie, tally.both_bad, COUNT(*)
    FROM {preference} mine
    JOIN (
        SELECT vote.pair_id,
               SUM(CASE WHEN vote.verdict = 'a' THEN 1 ELSE 0 END) AS a,
               SUM(CASE WHEN vote.verdict = 'b' THEN 1 ELSE 0 END) AS b,
               SUM(CASE WHEN vote.verdict = 'tie' THEN 1 ELSE 0 END) AS tie,
               SUM(CASE WHEN vote.verdict = 'both_bad' THEN 1 ELSE 0 END) AS both_bad
        FROM {preference} vote
        JOIN {pair} pair ON pair.id = vote.pair_id
        WHERE pair.study_id = %s AND pair.slots_taken >= 2 AND pair.reserved_for_id IS NULL
              AND pair.state <> 'withdrawn' {only}
        GROUP BY vote.pair_id
        HAVING COUNT(*) >= 2
    ) tally ON tally.pair_id = mine.pair_id
    GROUP BY mine.annotator_id, mine.verdict, tally.a, tally.b, tally.tie, tally.both_bad
"""


@dataclass(frozen=True)
class TallyRow:
    """`votes` votes of one annotator for one verdict, on pairs whose votes fell like `tally`."""

    annotator_id: int
    verdict: str
    tally: Tally
    votes: int


@dataclass(frozen=True)
class Agreement:
    """Agreement of one annotator with the others, or of everybody: raw, and beyond chance."""

    raw: Share
    alpha: Alpha


def tally_rows(study: Study, *, kept: KeptVotes) -> list[TallyRow]:
    """Return how votes fell on the pairs that two people or more have judged: one query.

    Those on frozen pairs are taken from what is kept.
    """
    if not kept.rows:
        return _tally_rows(study, only="", parameters=[])
    marks = ", ".join(["%s"] * len(kept.rows))
    frozen = f"pair.state = 'frozen' AND pair.purpose = 'train' AND pair.batch IN ({marks})"
    return _tally_rows(study, only=f"AND NOT ({frozen})", parameters=kept.batches) + _kept_rows(kept)


def batch_tally_rows(study: Study, *, batch: int) -> list[TallyRow]:
    """Return how votes fell on the shared training pairs of one delivery: one query."""
    return _tally_rows(study, only="AND pair.purpose = 'train' AND pair.batch = %s", parameters=[batch])


def frozen_tally_rows(study: Study, *, batch: int) -> list[TallyRow]:
    """Return how votes fell on the shared frozen training pairs of one delivery: one query."""
    only = "AND pair.purpose = 'train' AND pair.batch = %s AND pair.state = 'frozen'"
    return _tally_rows(study, only=only, parameters=[batch])


def _kept_rows(kept: KeptVotes) -> list[TallyRow]:
    rows = (row for delivery in kept.rows for row in delivery.counts["tallies"])
    return [TallyRow(annotator, verdict, _tally(tally), votes) for annotator, verdict, tally, votes in rows]


def _tally_rows(study: Study, *, only: str, parameters: list[int]) -> list[TallyRow]:
    tables = {"preference": Preference._meta.db_table, "pair": Pair._meta.db_table}
    with connection.cursor() as cursor:
        cursor.execute(TALLIES.format(**tables, only=only), [study.pk, *parameters])
        return [TallyRow(row[0], row[1], _tally(row[2:6]), row[6]) for row in cursor.fetchall()]


def _tally(counts: Sequence[int]) -> Tally:
    a, b, tie, both_bad = map(int, counts)
    return a, b, tie, both_bad


def study_agreement(rows: list[TallyRow]) -> Agreement:
    """Return the agreement of all votes. A pair with n votes stands in n rows, so it is counted 1/n each."""
    votes: Counter[Tally] = Counter()
    for row in rows:
        votes[row.tally] += row.votes
    pairs = {tally: count // sum(tally) for tally, count in votes.items()}
    return Agreement(raw=raw_agreement(pairs), alpha=krippendorff_alpha(pairs))


def agreement_by_annotator(rows: list[TallyRow]) -> dict[int, Agreement]:
    """Return each annotator's agreement with the others on the pairs that they share."""
    by_annotator: dict[int, list[TallyRow]] = {}
    for row in rows:
        by_annotator.setdefault(row.annotator_id, []).append(row)
    return {annotator: _with_others(mine) for annotator, mine in by_annotator.items()}


def _with_others(mine: list[TallyRow]) -> Agreement:
    agreeing = sum(row.votes * (row.tally[VERDICTS.index(row.verdict)] - 1) for row in mine)
    compared = sum(row.votes * (sum(row.tally) - 1) for row in mine)
    pairs: Counter[Tally] = Counter()
    for row in mine:
        pairs[row.tally] += row.votes
    return Agreement(raw=share_of(hits=agreeing, total=compared), alpha=krippendorff_alpha(pairs))
