"""Which deliveries' votes are read from where they are kept, and which votes are read one by one."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from django.db.models import BooleanField, Count, Q
from django.db.models.expressions import RawSQL

from annotate.models import FrozenVotes, Pair, Study


@dataclass(frozen=True)
class KeptVotes:
    """The rows of a study that hold, and how many training pairs are frozen today, by delivery."""

    study: Study
    rows: list[FrozenVotes]
    frozen: dict[int, int]

    @property
    def batches(self) -> list[int]:
        return [row.batch for row in self.rows]

    def batches_elsewhere(self, *, opened: Collection[int]) -> set[int]:
        """Return the deliveries that have pairs, open or frozen, which no row is about.

        `opened` are those that had open pairs just before the rows were read, see `open_batches`.
        """
        return set(opened) | (self.frozen.keys() - set(self.batches))

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
    return KeptVotes(study, holding, frozen=today)


def open_batches(study: Study, *, batches: Collection[int]) -> list[int]:
    """Return which of these deliveries have open training pairs: one query.

    To be read before `kept_votes`: a pair that is frozen in between is then seen twice and not missed.
    """
    pairs = Pair.objects.filter(_in_state("open"), study=study, purpose=Pair.Purpose.TRAIN, batch__in=batches)
    return list(pairs.order_by().values_list("batch", flat=True).distinct())


def frozen_pairs(study: Study, *, batches: Collection[int] | None = None) -> dict[tuple[str, int], int]:
    """Return how many frozen pairs there are, by purpose and delivery: one query."""
    pairs = Pair.objects.filter(_in_state("frozen"), study=study)
    if batches is not None:
        pairs = pairs.filter(batch__in=batches)
    rows = pairs.order_by().values_list("batch", "purpose").annotate(pairs=Count("pk"))
    return {(purpose, batch): count for batch, purpose, count in rows}


def _in_state(state: Literal["open", "frozen"]) -> RawSQL:
    # Worded as in the index's condition: SQLite cannot tell that a value given apart from the SQL meets it.
    return RawSQL(f"state = '{state}'", [], output_field=BooleanField())
