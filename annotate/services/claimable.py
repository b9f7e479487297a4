"""Which pairs an annotator could be given now: the rule in full, which the queue's cursors abbreviate."""

from django.db.models import Exists, F, OuterRef, QuerySet

from annotate.models import Lease, Pair, Preference, Skip, Study, User


def claimable_pairs(*, study: Study, annotator: User) -> QuerySet[Pair]:
    """Pairs of the common queue that this annotator could be given now, in the order of the queue.

    The cost grows with what the annotator has done; `annotate.services.search` is for every day.
    """
    theirs = {"pair": OuterRef("pk"), "annotator": annotator}
    return Pair.objects.filter(
        ~Exists(Preference.objects.filter(**theirs)),
        ~Exists(Lease.objects.filter(**theirs)),
        ~Exists(Skip.objects.filter(**theirs)),
        study=study,
        state=Pair.State.OPEN,
        slots_taken__lt=F("labels_wanted"),
        reserved_for__isnull=True,
    ).order_by(F("priority").desc(), "order_key", "pk")
