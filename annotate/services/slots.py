"""The accounting of `Pair.slots_taken` = preferences + leases; call within the change's transaction.

A pair that can be taken again is put beyond every annotator's cursor, where each of them comes to it; whoever
does that holds the queue's lock (`annotate.services.locks.lock_queue`).
"""

import math

from django.db import connection
from django.db.models import F, FloatField, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from annotate.models import Pair, QueueCursor

# Far below the distance of two order keys in a study of a million pairs, far above a float's resolution.
JUST_BEYOND = 1e-9
_TAKE_SLOT = f"""
UPDATE {Pair._meta.db_table} SET slots_taken = slots_taken + 1
WHERE id = %s AND state = 'open' AND slots_taken < labels_wanted
"""


def take_slot(pair_id: int) -> bool:
    """Take one slot of an open pair; False when it has none left. A single compare-and-swap."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKE_SLOT, [pair_id])
        return bool(cursor.rowcount == 1)


def give_slot_back(pair_id: int) -> None:
    """Return one slot to a pair."""
    held = Pair.objects.filter(pk=pair_id, slots_taken__gt=0)
    held.update(slots_taken=F("slots_taken") - 1, order_key=_beyond_cursors())


def put_beyond_cursors(pairs: QuerySet[Pair]) -> int:
    """Let every annotator come to these pairs (again), because they want more labels or are open again."""
    return pairs.update(order_key=_beyond_cursors())


def place_of_new_pair(order_key: float, *, study_id: int, priority: int) -> float:
    """Return the first place beyond every cursor with the fraction of `order_key`, which lies in [0, 1)."""
    furthest = (
        QueueCursor.objects.filter(study_id=study_id, priority=priority)
        .order_by("-order_key")
        .values_list("order_key", flat=True)
        .first()
    )
    if furthest is None or furthest < order_key:
        return order_key
    return order_key + math.floor(furthest - order_key) + 1


def _beyond_cursors() -> Greatest:
    """Where a pair stands already, if that is beyond every cursor; otherwise just beyond the furthest one."""
    cursors = QueueCursor.objects.filter(study=OuterRef("study"), priority=OuterRef("priority"))
    furthest = Subquery(cursors.order_by("-order_key").values("order_key")[:1], output_field=FloatField())
    return Greatest(F("order_key"), Coalesce(furthest + JUST_BEYOND, F("order_key")))
