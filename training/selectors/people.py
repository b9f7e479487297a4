"""Who labels in a study and how they are getting on: counts that are kept, and the round at work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db.models import BooleanField, Case, Count, OuterRef, Subquery, When
from django.utils import timezone

from annotate.models import AnnotatorProgress, Membership, Pair, Preference, Role, Study, User
from annotate.services.leases import is_left, open_leases


@dataclass(frozen=True)
class PersonRow:
    """Someone who labels or has labelled: what they gave in all, in the round, in the last hour.

    Practice counts nowhere; `median_seconds` is that of the round's latest labels. `left` of
    the pairs that are `holding` are held though nobody works on them.
    """

    user: User
    role: str
    labels: int = 0
    labels_this_round: int = 0
    last_hour: int = 0
    median_seconds: float | None = None
    holding: int = 0
    left: int = 0
    is_paused: bool = False
    last_label_at: datetime | None = None


def people(study: Study, *, batch: int, median_seconds: Mapping[int, float] | None = None) -> list[PersonRow]:
    """Return everyone who labels or has labelled, most labels first: six queries."""
    medians = median_seconds or {}
    given = labels_in_all(study)
    this_round, last_hour = labels_of_round(study, batch=batch), recent(study)
    holding, left = held(study)
    shown = set(given) | set(holding)
    rows = {
        row.user.pk: row for row in members(study) if row.role != Role.VIEWER.label or row.user.pk in shown
    }
    for user in User.objects.filter(pk__in=shown - set(rows)):
        rows[user.pk] = PersonRow(user=user, role="No longer a member")
    counted = [
        replace(
            row,
            labels=given.get(pk, 0),
            labels_this_round=this_round.get(pk, 0),
            last_hour=last_hour.get(pk, 0),
            median_seconds=medians.get(pk),
            holding=holding[pk],
            left=left[pk],
        )
        for pk, row in rows.items()
    ]
    return sorted(counted, key=lambda row: (-row.labels, row.user.username))


def members(study: Study) -> list[PersonRow]:
    """Return the members with the time of their latest label: one query."""
    own = Preference.objects.filter(annotator=OuterRef("user"), pair__study=study).order_by("-created_at")
    found = Membership.objects.filter(study=study).select_related("user")
    return [
        PersonRow(
            user=member.user,
            role=member.get_role_display(),
            is_paused=member.is_paused,
            last_label_at=member.last_label_at,
        )
        for member in found.annotate(last_label_at=Subquery(own.values("created_at")[:1]))
    ]


def labels_in_all(study: Study) -> dict[int, int]:
    """Return the labels of each annotator, as they were counted when they were given."""
    kept = AnnotatorProgress.objects.filter(study=study, labels__gt=0)
    return dict(kept.values_list("annotator", "labels"))


def labels_of_round(study: Study, *, batch: int) -> dict[int, int]:
    """Return the labels of each annotator on the training pairs of a round."""
    given = Preference.objects.filter(pair__study=study, pair__purpose=Pair.Purpose.TRAIN, pair__batch=batch)
    return dict(given.order_by().values_list("annotator").annotate(labels=Count("pk")))


def recent(study: Study) -> dict[int, int]:
    """Return the labels of each member in the last hour, practice left out."""
    names = Membership.objects.filter(study=study).values("user")
    since = timezone.now() - timedelta(hours=1)
    given = Preference.objects.filter(annotator__in=names, created_at__gte=since, pair__study=study)
    given = given.exclude(pair__purpose=Pair.Purpose.PRACTICE)
    return dict(given.order_by().values_list("annotator").annotate(labels=Count("pk")))


def held(study: Study) -> tuple[Counter[int], Counter[int]]:
    """Return how many pairs each annotator holds, and how many of them nobody works on: one query."""
    left = Case(When(is_left(study), then=True), default=False, output_field=BooleanField())
    rows = list(open_leases(study).values_list("annotator", left))
    return Counter(user for user, _ in rows), Counter(user for user, idle in rows if idle)
