"""Reads all votes on a study's training pairs in four queries, without making an object of any."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

import numpy as np

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
    rows = Preference.objects.filter(**of_pairs).exclude(pair__state=Pair.State.WITHDRAWN).order_by()
    pairs, batch, annotators, verdicts, strengths, rules = _columns(
        rows.values_list("pair_id", "pair__batch", "annotator_id", "verdict", "strength", "simulated_rule"),
        width=6,
    )
    ignored = np.isin(_numbers(annotators), list(left_out_annotators(study) | set(left_out)))
    decided = _decisions(of_pairs)
    pair_ids, first = np.unique(np.concatenate([_numbers(pairs), _numbers(decided)]), return_index=True)
    of_batch = [*batch, *(row[0] for row in decided.values())]
    decisions = np.full(len(pair_ids), UNDECIDED, dtype=np.int64)
    decisions[np.searchsorted(pair_ids, _numbers(decided))] = [row[1] for row in decided.values()]
    counted = ~ignored
    return VoteColumns(
        pair_ids=pair_ids,
        batches=_numbers(of_batch)[first],
        decisions=decisions,
        pairs=np.searchsorted(pair_ids, _numbers(pairs))[counted],
        annotators=_numbers(annotators)[counted],
        verdicts=_numbers(map(PLACE.__getitem__, verdicts))[counted],
        strengths=_numbers(strength or 0 for strength in strengths)[counted],
        ignored=int(ignored.sum()),
        simulated=_simulated(rules, counted=counted),
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


def _columns(rows: Iterable[tuple[Any, ...]], *, width: int) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True)) or [()] * width


def _numbers(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _simulated(rules: Iterable[str], *, counted: np.ndarray[Any, Any]) -> dict[str, int]:
    found = Counter(rule for rule, counts in zip(rules, counted.tolist(), strict=True) if rule and counts)
    return dict(sorted(found.items()))
