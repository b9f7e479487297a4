"""Each annotator's count of labels, kept with every label so that showing it never counts."""

from django.db import connection

from annotate.models import AnnotatorProgress, Pair, Preference, User

_ADD = f"""
UPDATE {AnnotatorProgress._meta.db_table} SET labels = labels + %s WHERE study_id = %s AND annotator_id = %s
"""


def add_labels(number: int, *, study_id: int, annotator: User) -> None:
    """Note so many labels more, or fewer; call it after the change, in its transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [number, study_id, annotator.pk])
        known = cursor.rowcount == 1
    if not known:
        progress_of(study_id=study_id, annotator=annotator)


def progress_of(*, study_id: int, annotator: User) -> AnnotatorProgress:
    """Return the annotator's row, made by counting where there is none yet."""
    progress = AnnotatorProgress.objects.filter(study_id=study_id, annotator=annotator).first()
    if progress is not None:
        return progress
    labels = count_labels(study_id=study_id, annotator=annotator)
    progress, _ = AnnotatorProgress.objects.get_or_create(
        study_id=study_id, annotator=annotator, defaults={"labels": labels}
    )
    return progress


def count_labels(*, study_id: int, annotator: User) -> int:
    """Count an annotator's labels but those of practice; the cost grows with them."""
    labels = Preference.objects.filter(annotator=annotator, pair__study_id=study_id)
    return labels.exclude(pair__purpose=Pair.Purpose.PRACTICE).count()
