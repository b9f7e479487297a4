"""Each annotator's count of labels, kept with every label so that showing it never counts."""

from django.db.models import F

from annotate.models import AnnotatorProgress, Preference, Study, User


def labels_made(*, study: Study, annotator: User) -> int:
    """Return how many labels the annotator has in the study."""
    kept = AnnotatorProgress.objects.filter(study=study, annotator=annotator).values_list("labels", flat=True)
    return next(iter(kept), None) or _count_labels(study_id=study.pk, annotator=annotator)


def add_labels(number: int, *, study_id: int, annotator: User) -> None:
    """Note so many labels more, or fewer; call it after the change, in its transaction."""
    progress = AnnotatorProgress.objects.filter(study_id=study_id, annotator=annotator)
    if not progress.update(labels=F("labels") + number):
        progress_of(study_id=study_id, annotator=annotator)


def progress_of(*, study_id: int, annotator: User) -> AnnotatorProgress:
    """Return the annotator's row, made by counting where there is none yet."""
    progress = AnnotatorProgress.objects.filter(study_id=study_id, annotator=annotator).first()
    if progress is not None:
        return progress
    labels = _count_labels(study_id=study_id, annotator=annotator)
    progress, _ = AnnotatorProgress.objects.get_or_create(
        study_id=study_id, annotator=annotator, defaults={"labels": labels}
    )
    return progress


def _count_labels(*, study_id: int, annotator: User) -> int:
    return Preference.objects.filter(annotator=annotator, pair__study_id=study_id).count()
