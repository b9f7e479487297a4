"""What is kept of the votes on a delivery once its pairs are frozen."""

from __future__ import annotations

from collections.abc import Iterable

from django.db import transaction
from django.db.models import Count, Q, Sum

from annotate.models import FrozenVotes, Pair, Preference, Split, Study, Verdict
from annotate.selectors.agreement import frozen_tally_rows
from annotate.selectors.frozen_votes import frozen_pairs, kept_votes
from annotate.selectors.packed_votes import PackedVotes
from annotate.selectors.vote_counts import labels_by_day


def keep_frozen_votes(study: Study, *, batches: Iterable[int]) -> None:
    """Keep the votes on the frozen training pairs of these deliveries, and what they count up to."""
    for batch in batches:
        with transaction.atomic():
            _keep(study, batch=batch)


def keep_missing_votes() -> None:
    """Keep the votes of every frozen delivery of which nothing, or something out of date, is kept."""
    for study in Study.objects.all():
        kept = kept_votes(study, column="pairs")
        frozen = {batch for purpose, batch in frozen_pairs(study) if purpose == Pair.Purpose.TRAIN}
        keep_frozen_votes(study, batches=sorted(frozen - set(kept.batches)))


def _keep(study: Study, *, batch: int) -> None:
    frozen = Pair.objects.filter(
        study=study, batch=batch, purpose=Pair.Purpose.TRAIN, state=Pair.State.FROZEN
    )
    votes = Preference.objects.filter(pair__in=frozen).order_by()
    verdicts = {verdict.value: Count("pk", filter=Q(verdict=verdict)) for verdict in Verdict}
    days = [[row.annotator_id, row.day, *row.counts] for row in labels_by_day(votes)]
    tallies = [
        [row.annotator_id, row.verdict, row.tally, row.votes] for row in frozen_tally_rows(study, batch=batch)
    ]
    size = frozen.aggregate(pairs=Count("pk"), labels_wanted=Sum("labels_wanted", default=0))
    FrozenVotes.objects.update_or_create(
        study=study,
        batch=batch,
        defaults={
            "pairs": size["pairs"],
            "votes": PackedVotes.of(votes.filter(pair__prompt__split=Split.TRAIN)).as_bytes,
            "counts": {
                "days": days,
                "tallies": tallies,
                "labels_wanted": size["labels_wanted"],
                "verdicts": votes.aggregate(**verdicts, simulated=Count("pk", filter=~Q(simulated_rule=""))),
            },
        },
    )
