"""Finding an annotator's next pair at a cost that does not grow with the study.

An annotator's cursor says how far they have come among the pairs of one priority; what is claimable for them
lies beyond it, because whatever enters the queue is put beyond every cursor (`annotate.services.slots`).
So the search reads on from the cursor in the order of the queue's index. What it passes over was judged,
held or skipped by the annotator, and is passed over once.
"""

import time
from dataclasses import dataclass
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from annotate.models import AnnotatorProgress, Lease, Pair, Preference, QueueCursor, Skip, Study, User
from annotate.services.claimable import claimable_pairs
from annotate.services.progress import progress_of

# Counting stops here, so that the figure costs the same in a study of a million pairs.
COUNT_LIMIT = 1000
# The whole queue is searched before the first "all done", and again after this long at the earliest; where
# that search is slow, after this many times its own duration.
SWEEP_EVERY = timedelta(minutes=1)
SWEEP_REST = 200


@dataclass(frozen=True)
class Place:
    """Where a pair stands in the queue."""

    pair_id: int
    priority: int
    order_key: float


@dataclass(frozen=True)
class Ahead:
    """How many pairs wait for an annotator: exactly, or at least, where counting stopped early."""

    claimable: int
    is_exact: bool


# Written as in the index `open_pairs_in_queue_order`, so that both databases see that the index covers it.
_OPEN = (
    "{pair}.study_id = %(study)s AND {pair}.state = 'open' AND {pair}.slots_taken < {pair}.labels_wanted "
    "AND {pair}.reserved_for_id IS NULL"
)
_MINE = " OR ".join(
    f"EXISTS (SELECT 1 FROM {model._meta.db_table} mine"
    " WHERE mine.pair_id = {pair}.id AND mine.annotator_id = %(annotator)s)"
    for model in (Preference, Lease, Skip)
)
# The priorities that have open pairs, highest first, by one look into the index for each.
_LEVELS = f"""
WITH RECURSIVE level(priority) AS (
    SELECT * FROM (
        SELECT pair.priority FROM {Pair._meta.db_table} pair WHERE {_OPEN.format(pair="pair")}
        ORDER BY pair.priority DESC LIMIT 1
    ) highest
    UNION ALL
    SELECT (
        SELECT pair.priority FROM {Pair._meta.db_table} pair
        WHERE {_OPEN.format(pair="pair")} AND pair.priority < level.priority
        ORDER BY pair.priority DESC LIMIT 1
    ) FROM level WHERE level.priority IS NOT NULL
)
"""
_FROM_LEVEL = f"""
FROM level LEFT JOIN {QueueCursor._meta.db_table} place
    ON place.study_id = %(study)s AND place.annotator_id = %(annotator)s AND place.priority = level.priority
"""
_BEYOND = f"""
{_OPEN.format(pair="pair")} AND pair.priority = level.priority
AND (pair.order_key, pair.id) > (COALESCE(place.order_key, -1), COALESCE(place.pair_number, 0))
"""
_NEXT = f"""
{_LEVELS}
SELECT found.id, found.priority, found.order_key
{_FROM_LEVEL}
JOIN {Pair._meta.db_table} found ON found.id = (
    SELECT pair.id FROM {Pair._meta.db_table} pair
    WHERE {_BEYOND} AND NOT ({_MINE.format(pair="pair")})
    ORDER BY pair.order_key, pair.id LIMIT 1
)
WHERE level.priority IS NOT NULL ORDER BY level.priority DESC LIMIT 1
"""
_COUNT = f"""
{_LEVELS}
SELECT COUNT(*), COALESCE(SUM(CASE WHEN {_MINE.format(pair="open_pair")} THEN 0 ELSE 1 END), 0) FROM (
    SELECT pair.id {_FROM_LEVEL} JOIN {Pair._meta.db_table} pair ON {_BEYOND}
    WHERE level.priority IS NOT NULL LIMIT %(limit)s
) open_pair
"""
_ENDS = f"""
{_LEVELS}
SELECT level.priority, last.order_key, last.id
{_FROM_LEVEL}
JOIN {Pair._meta.db_table} last ON last.id = (
    SELECT pair.id FROM {Pair._meta.db_table} pair WHERE {_BEYOND}
    ORDER BY pair.order_key DESC, pair.id DESC LIMIT 1
)
WHERE level.priority IS NOT NULL
"""


def first_beyond_cursor(*, study: Study, annotator: User) -> Place | None:
    """Return the place of the first claimable pair beyond the annotator's cursors, by one statement."""
    with connection.cursor() as cursor:
        cursor.execute(_NEXT, {"study": study.pk, "annotator": annotator.pk})
        row = cursor.fetchone()
    return Place(pair_id=row[0], priority=row[1], order_key=row[2]) if row else None


def count_beyond_cursor(*, study: Study, annotator: User) -> Ahead:
    """Count what waits for the annotator; looks at no more than COUNT_LIMIT + 1 pairs."""
    values = {"study": study.pk, "annotator": annotator.pk, "limit": COUNT_LIMIT + 1}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, values)
        looked_at, claimable = cursor.fetchone()
    return Ahead(claimable=min(claimable, COUNT_LIMIT), is_exact=looked_at <= COUNT_LIMIT)


def move_cursor(*, study: Study, annotator: User, priority: int, order_key: float, pair_number: int) -> None:
    """Note how far the annotator has come; call it within the claim's transaction."""
    _write_cursors(
        [
            QueueCursor(
                study=study,
                annotator=annotator,
                priority=priority,
                order_key=order_key,
                pair_number=pair_number,
            )
        ]
    )


def move_cursors_to_end(*, study: Study, annotator: User) -> None:
    """Put the cursors at the last open pairs: a search has just found nothing and need not be made again."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDS, {"study": study.pk, "annotator": annotator.pk})
        ends = cursor.fetchall()
    if ends:
        _write_cursors(
            [
                QueueCursor(
                    study=study,
                    annotator=annotator,
                    priority=priority,
                    order_key=order_key,
                    pair_number=pair_id,
                )
                for priority, order_key, pair_id in ends
            ]
        )


def rewind_cursors(*, study: Study, annotator: User | None = None) -> None:
    """Let the search begin at the start of the queue again, for one annotator or for all."""
    cursors = QueueCursor.objects.filter(study=study)
    if annotator is not None:
        cursors = cursors.filter(annotator=annotator)
    cursors.delete()


def sweep_queue(*, study: Study, annotator: User) -> bool:
    """Search the whole queue, unless that was just done; True when the cursors had missed a pair.

    A net below the cursors, for pairs that somebody changed past the services.
    """
    now = timezone.now()
    progress = progress_of(study_id=study.pk, annotator=annotator)
    if progress.sweep_after and now < progress.sweep_after:
        return False
    started = time.monotonic()
    missed = claimable_pairs(study=study, annotator=annotator).order_by().exists()
    if missed:
        rewind_cursors(study=study, annotator=annotator)
    rest = max(SWEEP_EVERY, SWEEP_REST * timedelta(seconds=time.monotonic() - started))
    AnnotatorProgress.objects.filter(pk=progress.pk).update(sweep_after=now + rest)
    return missed


def _write_cursors(cursors: list[QueueCursor]) -> None:
    QueueCursor.objects.bulk_create(
        cursors,
        update_conflicts=True,
        unique_fields=["study", "annotator", "priority"],
        update_fields=["order_key", "pair_number"],
    )
