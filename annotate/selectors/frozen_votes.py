"""Which deliveries' votes are read from where they are kept, and which votes are read one by one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.db.models import BooleanField, Count, Q
from django.db.models.expressions import RawSQL

from annotate.models import FrozenVotes, Pair, Study


@dataclass(frozen=True)
class KeptVotes:
    """The rows of a study that hold."""

    study: Study
    rows: list[FrozenVotes]

    @property
    def batches(self) -> list[int]:
        return [row.batch for row in self.rows]

    @property
    def votes_elsewhere(self) -> Q:
        """The condition on preferences that none of the rows has."""
        # Through the pairs, of which few are elsewhere; a join would look the pair of every vote up.
        return Q(pair__in=Pair.objects.filter(self.pairs_elsewhere, study=self.study).values("pk"))

    @property
    def pairs_elsewhere(self) -> Q:
        """The condition on pairs that none of the rows is about."""
        # What is frozen once the rows are read is none of theirs, even where they are about all frozen pairs.
        theirs = Q(purpose=Pair.Purpose.TRAIN, batch__in=self.batches)
        return Q(state__in=[Pair.State.OPEN, Pair.State.WITHDRAWN]) | ~theirs


def kept_votes(study: Study, *, column: str, batches: Collection[int] | None = None) -> KeptVotes:
    """Return what is kept of these deliveries, or of all, with this column loaded: two queries.

    A row whose number of frozen pairs is another today is out of date, and is not used.
    """
    frozen = frozen_pairs(study, batches=batches)
    today = {batch: pairs for (purpose, batch), pairs in frozen.items() if purpose == Pair.Purpose.TRAIN}
    rows = FrozenVotes.objects.filter(study=study, batch__in=today).only("batch", "pairs", column)
    holding = [row for row in rows.order_by("batch") if today[row.batch] == row.pairs]
    return KeptVotes(study, holding)


def frozen_pairs(study: Study, *, batches: Collection[int] | None = None) -> dict[tuple[str, int], int]:
    """Return how many frozen pairs there are, by purpose and delivery: one query."""
    # Worded as in the index's condition: SQLite cannot tell that a value given apart from the SQL meets it.
    is_frozen = RawSQL("state = 'frozen'", [], output_field=BooleanField())
    pairs = Pair.objects.filter(is_frozen, study=study)
    if batches is not None:
        pairs = pairs.filter(batch__in=batches)
    rows = pairs.order_by().values_list("batch", "purpose").annotate(pairs=Count("pk"))
    return {(purpose, batch): count for batch, purpose, count in rows}
