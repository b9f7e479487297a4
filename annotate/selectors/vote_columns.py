"""Reads all votes on a study's training pairs in a fixed number of queries, making no object of any."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection
from django.db.models import BigIntegerField, Case, Count, ExpressionWrapper, F, QuerySet, When
from django.db.models.functions import Coalesce

from annotate.models import Pair, Preference, Resolution, Split, Study
from annotate.quality.vote_columns import LEFT_OUT, PLACE, UNDECIDED, IntArray, VoteColumns
from annotate.selectors.preferences import left_out_annotators


def vote_columns(
    *, study: Study, batches: Iterable[int] | None = None, left_out: Collection[int] = ()
) -> VoteColumns:
    """Return the votes on training pairs of train prompts, and leads' decisions on them.

    Votes of members who are left out of training sets, and of `left_out`, are counted and left away.
    """
    of_pairs = _of_train_pairs(study=study, batches=None if batches is None else list(batches))
    votes = Preference.objects.filter(**of_pairs).exclude(pair__state=Pair.State.WITHDRAWN).order_by()
    packed = _Packed.of(votes)
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


@dataclass(frozen=True)
class _Packed:
    """Votes as columns, shape (votes,): read as two numbers a row, since most of the time goes into rows."""

    pairs: IntArray
    batches: IntArray
    annotators: IntArray
    verdicts: IntArray
    strengths: IntArray
    simulated: IntArray

    @classmethod
    def of(cls, votes: QuerySet[Preference]) -> _Packed:
        """Read the votes: annotator, 16 bits of batch, 2 of verdict, 3 of strength, 1 of "simulated"."""
        verdict = Case(
            *(When(verdict=said, then=place) for said, place in PLACE.items()), output_field=BigIntegerField()
        )
        simulated = Case(When(simulated_rule="", then=0), default=1, output_field=BigIntegerField())
        code = F("annotator_id") * 2**16 + F("pair__batch")
        code = ((code * 4 + verdict) * 8 + Coalesce("strength", 0)) * 2 + simulated
        rows = votes.values_list("pair_id", ExpressionWrapper(code, output_field=BigIntegerField()))
        with connection.cursor() as cursor:  # past the conversion of each value, which takes as long again
            cursor.execute(*rows.query.sql_with_params())
            numbers = np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 2)
        pairs, rest = numbers[:, 0], numbers[:, 1]
        return cls(
            pairs=pairs,
            batches=(rest >> 6) & 0xFFFF,
            annotators=rest >> 22,
            verdicts=(rest >> 4) & 3,
            strengths=(rest >> 1) & 7,
            simulated=rest & 1,
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
