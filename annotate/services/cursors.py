"""Moving annotators' cursors: forward with each pair, to the end when nothing is left, back when in doubt."""

import time
from datetime import timedelta

from django.db import connection
from django.utils import timezone

from annotate.models import AnnotatorProgress, QueueCursor, Study, User
from annotate.services.claimable import claimable_pairs
from annotate.services.progress import progress_of
from annotate.services.search import Place, last_places

# The whole queue is searched before the first "all done", and again after this long at the earliest; where
# that search is slow, after this many times its own duration.
SWEEP_EVERY = timedelta(minutes=1)
SWEEP_REST = 200
_MOVE = f"""
INSERT INTO {QueueCursor._meta.db_table} (study_id, annotator_id, priority, order_key, pair_number)
VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (study_id, annotator_id, priority)
DO UPDATE SET order_key = excluded.order_key, pair_number = excluded.pair_number
"""


def move_cursors(places: list[Place], *, study: Study, annotator: User) -> None:
    """Note how far the annotator has come, by the last pair of each priority that they have had in hand."""
    mine = (study.pk, annotator.pk)
    with connection.cursor() as cursor:
        cursor.executemany(
            _MOVE, [(*mine, place.priority, place.order_key, place.pair_id) for place in places]
        )


def move_cursors_to_end(*, study: Study, annotator: User) -> None:
    """Put the cursors at the last open pairs: a search has just found nothing and need not be made again."""
    if places := last_places(study=study, annotator=annotator):
        move_cursors(places, study=study, annotator=annotator)


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
