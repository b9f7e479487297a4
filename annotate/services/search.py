"""Searching a study's queue at a cost that does not grow with it, by statements written out in SQL.

An annotator's cursor (`QueueCursor`) says how far they have come among the pairs of one priority, and what is
claimable for them lies beyond it. Each statement here reads on from there in the order of the index
`open_pairs_in_queue_order` and stops at the first pair that will do. Written by the ORM they would be slower:
on SQLite, making the SQL took ten times as long as running it.
"""

from dataclasses import dataclass
from typing import Any

from django.db import connection

from annotate.models import AnnotatorProgress, Lease, Pair, Preference, QueueCursor, Skip, Study, User

# Counting stops here, so that the figure costs the same in a study of a million pairs.
COUNT_LIMIT = 300


@dataclass(frozen=True)
class Place:
    """Where a pair stands in the queue."""

    pair_id: int
    priority: int
    order_key: float


@dataclass(frozen=True)
class Waiting:
    """The first pair that is reserved for an annotator, and the first of the common queue."""

    reserved: Place | None
    common: Place | None


@dataclass(frozen=True)
class Figures:
    """An annotator's figures. `labels` is None before it was first counted.

    `claimable` pairs wait in the common queue: so many exactly, or at least, where counting stopped early.
    """

    claimable: int
    is_exact: bool
    held: int
    labels: int | None


_PAIR, _CURSOR, _LEASE, _PROGRESS = (
    model._meta.db_table for model in (Pair, QueueCursor, Lease, AnnotatorProgress)
)
# Worded as in the conditions of the indexes, so that both databases see that an index covers it.
_FREE = "pair.study_id = %(study)s AND pair.state = 'open' AND pair.slots_taken < pair.labels_wanted"
_OPEN = f"{_FREE} AND pair.reserved_for_id IS NULL"
_OF_THEIRS = [
    f"EXISTS (SELECT 1 FROM {model._meta.db_table} mine"
    " WHERE mine.pair_id = pair.id AND mine.annotator_id = %(annotator)s)"
    for model in (Preference, Lease, Skip)
]
_MINE = " OR ".join(_OF_THEIRS)
# Apart, PostgreSQL looks each pair up; for NOT (… OR …) it would first read all that the annotator judged.
_NOT_MINE = " AND ".join(f"NOT {theirs}" for theirs in _OF_THEIRS)
# The priorities that have open pairs, highest first, by one look into the index for each.
_LEVELS = f"""
WITH RECURSIVE level(priority) AS (
    SELECT * FROM (
        SELECT pair.priority FROM {_PAIR} pair WHERE {_OPEN} ORDER BY pair.priority DESC LIMIT 1
    ) highest
    UNION ALL
    SELECT (
        SELECT pair.priority FROM {_PAIR} pair
        WHERE {_OPEN} AND pair.priority < level.priority ORDER BY pair.priority DESC LIMIT 1
    ) FROM level WHERE level.priority IS NOT NULL
)
"""
# The limit tells SQLite that they are few; otherwise it would make a filter of all pairs to join them with.
_LEVELS_WITH_CURSOR = f"""
(
    SELECT priority FROM level WHERE priority IS NOT NULL ORDER BY priority DESC LIMIT 1000
) level LEFT JOIN {_CURSOR} place
    ON place.study_id = %(study)s AND place.annotator_id = %(annotator)s AND place.priority = level.priority
"""
_BEYOND = f"""
{_OPEN} AND pair.priority = level.priority
AND (pair.order_key, pair.id) > (COALESCE(place.order_key, -1), COALESCE(place.pair_number, 0))
"""
_FIRST = f"""
{_LEVELS}
SELECT * FROM (
    SELECT 1, pair.id, pair.priority, pair.order_key FROM {_PAIR} pair
    WHERE pair.reserved_for_id = %(annotator)s AND {_FREE} AND {_NOT_MINE}
    ORDER BY pair.priority DESC, pair.id LIMIT 1
) reserved
UNION ALL
SELECT * FROM (
    SELECT 0, found.id, found.priority, found.order_key
    FROM {_LEVELS_WITH_CURSOR} JOIN {_PAIR} found ON found.id = (
        SELECT pair.id FROM {_PAIR} pair WHERE {_BEYOND} AND {_NOT_MINE}
        ORDER BY pair.order_key, pair.id LIMIT 1
    )
    WHERE level.priority IS NOT NULL ORDER BY level.priority DESC LIMIT 1
) common
"""
# CROSS JOIN keeps SQLite to this order of the tables; the other way round it would read the whole study.
_COUNT = f"""
{_LEVELS}
SELECT COUNT(*), COALESCE(SUM(CASE WHEN {_MINE} THEN 0 ELSE 1 END), 0), (
    SELECT COUNT(*) FROM {_LEASE} lease JOIN {_PAIR} held ON held.id = lease.pair_id
    WHERE lease.annotator_id = %(annotator)s AND held.study_id = %(study)s AND held.state = 'open'
    AND held.purpose <> 'practice'
), (
    SELECT labels FROM {_PROGRESS} progress
    WHERE progress.study_id = %(study)s AND progress.annotator_id = %(annotator)s
) FROM (
    SELECT pair.id FROM {_LEVELS_WITH_CURSOR} CROSS JOIN {_PAIR} pair
    WHERE level.priority IS NOT NULL AND {_BEYOND} LIMIT %(limit)s
) pair
"""
_ENDS = f"""
{_LEVELS}
SELECT last.id, last.priority, last.order_key
FROM {_LEVELS_WITH_CURSOR} JOIN {_PAIR} last ON last.id = (
    SELECT pair.id FROM {_PAIR} pair WHERE {_BEYOND} ORDER BY pair.order_key DESC, pair.id DESC LIMIT 1
)
WHERE level.priority IS NOT NULL
"""
_LOCK = f"""
SELECT pair.id FROM {_PAIR} pair
WHERE {_OPEN} AND pair.priority = %(priority)s
AND (pair.order_key, pair.id) >= (%(order_key)s, %(pair)s) AND {_NOT_MINE}
ORDER BY pair.order_key, pair.id LIMIT 1 FOR NO KEY UPDATE OF pair SKIP LOCKED
"""


def first_waiting(*, study: Study, annotator: User) -> Waiting:
    """Return what the annotator could be given next, by one statement."""
    found: dict[bool, Place] = {}
    for is_reserved, pair_id, priority, order_key in _rows(_FIRST, study=study, annotator=annotator):
        found[bool(is_reserved)] = Place(pair_id=pair_id, priority=priority, order_key=order_key)
    return Waiting(reserved=found.get(True), common=found.get(False))


def lock_first_from(place: Place, *, study: Study, annotator: User) -> int | None:
    """Lock the first claimable pair from this place on that nobody is writing to, and return its id.

    SQLite's writers come one after the other; there it is the pair at the place itself.
    """
    if not connection.features.has_select_for_update_skip_locked:
        return place.pair_id
    values = {"pair": place.pair_id, "priority": place.priority, "order_key": place.order_key}
    rows = _rows(_LOCK, study=study, annotator=annotator, **values)
    return rows[0][0] if rows else None


def figures_of(*, study: Study, annotator: User) -> Figures:
    """Return the annotator's figures by one statement; it looks at COUNT_LIMIT + 1 pairs at most."""
    (row,) = _rows(_COUNT, study=study, annotator=annotator, limit=COUNT_LIMIT + 1)
    looked_at, claimable, held, labels = row
    return Figures(
        claimable=min(claimable, COUNT_LIMIT), is_exact=looked_at <= COUNT_LIMIT, held=held, labels=labels
    )


def last_places(*, study: Study, annotator: User) -> list[Place]:
    """Return the last open pair of each priority that lies beyond the annotator's cursor."""
    rows = _rows(_ENDS, study=study, annotator=annotator)
    return [
        Place(pair_id=pair_id, priority=priority, order_key=order_key)
        for pair_id, priority, order_key in rows
    ]


def _rows(statement: str, *, study: Study, annotator: User, **values: float) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, {"study": study.pk, "annotator": annotator.pk, **values})
        return list(cursor.fetchall())
