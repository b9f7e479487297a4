"""Reads all votes on a study's training pairs in a fixed number of queries, making no object of any.

Votes on frozen pairs are read from where they are kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import numpy as np
from django.db.models import Count, QuerySet

from annotate.models import Pair, Preference, Resolution, Split, Study
from annotate.quality.vote_columns import LEFT_OUT, PLACE, UNDECIDED, IntArray, VoteColumns
from annotate.selectors.frozen_votes import kept_votes
from annotate.selectors.packed_votes import PackedVotes
from annotate.selectors.preferences import left_out_annotators


def vote_columns(
    *, study: Study, batches: Iterable[int] | None = None, left_out: Collection[int] = ()
) -> VoteColumns:
    """Return the votes on training pairs of train prompts, and leads' decisions on them.

    Votes of members who are left out of training sets, and of `left_out`, are counted and left away.
    """
    wanted = None if batches is None else list(batches)
    of_pairs = _of_train_pairs(study=study, batches=wanted)
    votes = Preference.objects.filter(**of_pairs).exclude(pair__state=Pair.State.WITHDRAWN).order_by()
    kept = kept_votes(study, column="votes", batches=wanted)
    packed = PackedVotes.joined(
        [
            PackedVotes.of(votes.filter(kept.votes_elsewhere)),
            *(PackedVotes.from_bytes(row.votes) for row in kept.rows),
        ]
    )
    ignored = np.isin(packed.annotators, list(left_out_annotators(study) | set(left_out)))
    decided = _decisions(of_pairs)
    judged = np.concatenate([packed.pairs, _numbers(decided)])
    pair_ids, first = np.unique(judged, return_index=True)
    batch_of_row = np.concatenate([packed.batches, _numbers(batch for batch, _ in decided.values())])
    decisions = np.full(len(pair_ids), UNDECIDED, dtype=np.int64)
    decisions[np.searchsorted(pair_ids, _numbers(decided))] = [said for _, said in decided.values()]
    counted = ~ignored
    return VoteColumns(
        pair_ids=pair_ids,
        batches=batch_of_row[first],
        decisions=decisions,
        pairs=np.searchsorted(pair_ids, packed.pairs)[counted],
        annotators=packed.annotators[counted],
        verdicts=packed.verdicts[counted],
        strengths=packed.strengths[counted],
        ignored=int(ignored.sum()),
        simulated=_simulated(votes.exclude(annotator__in=np.unique(packed.annotators[ignored]).tolist()))
        if packed.simulated[counted].any()
        else {},
    )


def _of_train_pairs(*, study: Study, batches: list[int] | None) -> dict[str, Any]:
    """The conditions on a row that belongs to a pair, so that the pair is one for training."""
    conditions: dict[str, Any] = {
        "pair__study": study,
        "pair__purpose": Pair.Purpose.TRAIN,
        "pair__prompt__split": Split.TRAIN,
    }
    return conditions if batches is None else {**conditions, "pair__batch__in": batches}


def _decisions(of_pairs: dict[str, Any]) -> dict[int, tuple[int, int]]:
    """Leads' decisions by pair: its batch and the place of the verdict, or LEFT_OUT."""
    rows = Resolution.objects.filter(**of_pairs).exclude(pair__state=Pair.State.WITHDRAWN).order_by()
    return {
        pair: (batch, LEFT_OUT if out else PLACE[verdict])
        for pair, batch, verdict, out in rows.values_list("pair_id", "pair__batch", "verdict", "left_out")
    }


def _numbers(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _simulated(votes: QuerySet[Preference]) -> dict[str, int]:
    rows = votes.exclude(simulated_rule="").values_list("simulated_rule").annotate(labels=Count("pk"))
    return dict(sorted(rows))
