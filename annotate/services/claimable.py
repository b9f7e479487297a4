"""Which pairs an annotator could be given now: the rule in full, which the cursors only abbreviate."""

from django.db.models import Exists, F, OuterRef, Q, QuerySet

from annotate.models import Lease, Pair, Preference, Skip, Study, User


def free_pairs(*, study: Study) -> QuerySet[Pair]:
    """Open pairs of a study that want another label."""
    return Pair.objects.filter(study=study, state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))


def not_theirs(annotator: User) -> Q:
    """Hold for pairs that this annotator has not judged, held or skipped."""
    theirs = {"pair": OuterRef("pk"), "annotator": annotator}
    return (
        ~Q(Exists(Preference.objects.filter(**theirs)))
        & ~Q(Exists(Lease.objects.filter(**theirs)))
        & ~Q(Exists(Skip.objects.filter(**theirs)))
    )


def claimable_pairs(*, study: Study, annotator: User) -> QuerySet[Pair]:
    """Pairs of the common queue that this annotator could be given now, in the order of the queue."""
    return (
        free_pairs(study=study)
        .filter(not_theirs(annotator), reserved_for__isnull=True)
        .order_by(F("priority").desc(), "order_key", "pk")
    )


def reserved_pairs(*, study: Study, annotator: User) -> QuerySet[Pair]:
    """Pairs that only this annotator is to judge, in the order in which they were made."""
    return (
        free_pairs(study=study)
        .filter(not_theirs(annotator), reserved_for=annotator)
        .order_by(F("priority").desc(), "pk")
    )
