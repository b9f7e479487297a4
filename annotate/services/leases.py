"""Pairs that stay held though nobody works on them: which they are, and a lead's giving them back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate.models import Lease, Membership, Pair, Role, Study, User
from annotate.services.audit import record_audit
from annotate.services.queue import release_if_expired, release_lease


@dataclass(frozen=True)
class Released:
    """How many pairs went back to the queue, by the name of who held them."""

    by_name: tuple[tuple[str, int], ...]

    @property
    def pairs(self) -> int:
        return sum(pairs for _, pairs in self.by_name)


def open_leases(study: Study) -> QuerySet[Lease]:
    """Return the leases on open pairs of a study."""
    return Lease.objects.filter(pair__study=study, pair__state=Pair.State.OPEN)


def is_left(study: Study) -> Q:
    """Return the condition on a lease of the study that nobody works on its pair.

    Its time ran out, or its holder is given no pairs: is no member, a viewer, paused, or has no account any
    more.
    """
    able = Membership.objects.filter(
        study=study, user=OuterRef("annotator"), is_paused=False, user__is_active=True
    ).exclude(role=Role.VIEWER)
    return Q(expires_at__lt=timezone.now()) | ~Q(Exists(able))


def release_left(*, study: Study, actor: User) -> Released:
    """Give back every pair of the study that is held though nobody works on it; one audit entry.

    A lease that its holder renews meanwhile stays theirs.
    """
    now = timezone.now()
    released: Counter[str] = Counter()
    left = open_leases(study).filter(is_left(study)).select_related("annotator", "pair")
    for lease in left.order_by("pair_id", "pk"):
        if lease.expires_at < now:
            went = release_if_expired(lease.pk, pair_id=lease.pair_id, study_id=study.pk, now=now)
        else:
            went = release_lease(pair=lease.pair, annotator=lease.annotator)
        if went:
            released[lease.annotator.display_name] += 1
    found = Released(tuple(sorted(released.items())))
    if found.pairs:
        details = {"pairs": found.pairs, "held_by": dict(found.by_name)}
        record_audit(study=study, actor=actor, action="leases.released", details=details)
    return found
