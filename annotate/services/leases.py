"""Pairs that stay held though nobody works on them: which they are, and a lead's giving them back."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from annotate.models import Lease, Membership, Pair, Role, Study, User
from annotate.services.audit import record_audit
from annotate.services.queue import release_if_expired, release_lease


@dataclass(frozen=True)
class Released:
    """How many pairs went back to the queue, by who held them."""

    by_holder: tuple[tuple[User, int], ...]

    @property
    def pairs(self) -> int:
        return sum(pairs for _, pairs in self.by_holder)


def open_leases(study: Study) -> QuerySet[Lease]:
    """Return the leases on open pairs of a study."""
    return Lease.objects.filter(pair__study=study, pair__state=Pair.State.OPEN)


def is_left(study: Study) -> Q:
    """Return the condition on a lease of the study that nobody works on its pair.

    Its time ran out, or its holder is given no pairs: is no member or a viewer (but superusers are leads
    everywhere), is paused, or has no account any more.
    """
    membership = Membership.objects.filter(study=study, user=OuterRef("annotator"))
    labels = Q(Exists(membership.exclude(role=Role.VIEWER))) | Q(annotator__is_superuser=True)
    able = labels & Q(annotator__is_active=True) & ~Q(Exists(membership.filter(is_paused=True)))
    return Q(expires_at__lt=timezone.now()) | ~able


def release_left(*, study: Study, actor: User) -> Released:
    """Give back every pair of the study that is held though nobody works on it; one audit entry.

    Each in a transaction of its own, lest labelling wait for all. A lease that its holder renews meanwhile
    stays theirs.
    """
    now = timezone.now()
    holders: Counter[User] = Counter()
    left = open_leases(study).filter(is_left(study)).select_related("annotator", "pair")
    try:
        for lease in left.order_by("pair_id", "pk"):
            if _release(lease, study=study, now=now):
                holders[lease.annotator] += 1
    finally:
        # Also when one of them fails: the others are released by then.
        released = _by_name(holders)
        if released.pairs:
            held_by = {user.username: pairs for user, pairs in released.by_holder}
            details = {"pairs": released.pairs, "held_by": held_by}
            record_audit(study=study, actor=actor, action="leases.released", details=details)
    return released


def _by_name(holders: Counter[User]) -> Released:
    ordered = sorted(holders.items(), key=lambda item: (item[0].display_name, item[0].username))
    return Released(tuple(ordered))


def _release(lease: Lease, *, study: Study, now: datetime) -> bool:
    if lease.expires_at < now:
        return release_if_expired(lease.pk, pair_id=lease.pair_id, study_id=study.pk, now=now)
    return release_lease(pair=lease.pair, annotator=lease.annotator)
