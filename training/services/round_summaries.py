"""What is kept of a round's labels once they are frozen, so that no page counts them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from annotate.models import Study
from annotate.selectors.preferences import label_usage
from training.models import Round, RoundSummary
from training.selectors.label_counts import live_counts, pair_sizes, usage_keys


def keep_round_summaries(study: Study, *, rounds: Sequence[Round]) -> None:
    """Count the labels of these rounds and what a training set makes of them, and keep both.

    A round that still takes labels is passed over.
    """
    if not rounds:
        return
    keys, sizes = usage_keys(study, rounds=rounds), pair_sizes(study, rounds=rounds)
    for item in rounds:
        if not keys[item.number]:
            continue
        counts = live_counts(study, sizes=sizes, numbers=[item.number])[item.number]
        usage = label_usage(study=study, batches=[item.number])
        RoundSummary.objects.update_or_create(
            round=item,
            defaults={"key": keys[item.number], "values": {"counts": asdict(counts), "usage": asdict(usage)}},
        )
