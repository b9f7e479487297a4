"""How alike the two responses of each pair are: measured once per pair, by whoever first asks for it."""

from __future__ import annotations

import numpy as np

from annotate.models import Pair, Study
from annotate.quality.vote_columns import BoolArray, IntArray
from training.comparison.texts import word_change
from training.models import PairSimilarity

CHUNK = 1000


def alike_pairs(*, study: Study, pair_ids: IntArray, at_least: float) -> BoolArray:
    """Return which of the study's pairs have responses that share at least this part of their words."""
    _measure_missing(study=study, pair_ids=pair_ids)
    alike = PairSimilarity.objects.filter(pair__study=study, share__gte=at_least)
    found: BoolArray = np.isin(pair_ids, list(alike.values_list("pair_id", flat=True)))
    return found


def _measure_missing(*, study: Study, pair_ids: IntArray) -> None:
    known = PairSimilarity.objects.filter(pair__study=study).values_list("pair_id", flat=True)
    missing = np.setdiff1d(pair_ids, list(known)).tolist()
    for start in range(0, len(missing), CHUNK):
        pairs = Pair.objects.filter(pk__in=missing[start : start + CHUNK])
        texts = pairs.values_list("pk", "response_a__text", "response_b__text")
        PairSimilarity.objects.bulk_create(
            [PairSimilarity(pair_id=pair, share=1 - word_change(a, b)) for pair, a, b in texts],
            ignore_conflicts=True,
        )
