"""The people of a study as their page shows them: what they do, what they hold, which links are out."""

from dataclasses import dataclass
from datetime import datetime

from django.db.models import OuterRef, QuerySet, Subquery
from django.utils import timezone

from annotate.models import Invite, Lease, Membership, Pair, Preference, Role, Study, User
from annotate.quality.statistics import Share
from annotate.selectors.quality import Figures, figures_by_annotator
from annotate.services.invites import closed_because

LEASES_SHOWN = 100


@dataclass(frozen=True)
class Person:
    """A member with what they have done."""

    membership: Membership
    figures: Figures
    last_seen: datetime | None
    holding: int
    is_only_lead: bool

    @property
    def gold(self) -> Share:
        return self.figures.gold


@dataclass(frozen=True)
class HeldPair:
    """A live or run-out lease; `others` are the people it could be handed to."""

    lease: Lease
    has_run_out: bool
    others: tuple[User, ...]


@dataclass(frozen=True)
class ShownInvite:
    """A link without its secret; `closed` says why it lets nobody in, or is empty."""

    invite: Invite
    closed: str


def people_of(study: Study) -> list[Person]:
    """Return the members, leads first, with their figures: a fixed number of queries."""
    newest = Preference.objects.filter(annotator=OuterRef("user"), pair__study=study).order_by("-pk")
    members = list(
        Membership.objects.select_related("user")
        .filter(study=study)
        .annotate(last_label=Subquery(newest.values("updated_at")[:1]))
    )
    figures = figures_by_annotator(study, users=[member.user_id for member in members])
    held = Lease.objects.filter(pair__study=study, pair__state=Pair.State.OPEN).values_list(
        "annotator", flat=True
    )
    holding = list(held)
    leads = [member for member in members if member.role == Role.LEAD]
    members.sort(key=lambda member: (list(Role).index(Role(member.role)), member.user.username.lower()))
    return [
        Person(
            membership=member,
            figures=figures[member.user_id],
            last_seen=_latest(member.user.last_login, member.last_label),
            holding=holding.count(member.user_id),
            is_only_lead=leads == [member],
        )
        for member in members
    ]


def held_pairs(study: Study, *, people: list[Person]) -> list[HeldPair]:
    """Return who holds which pair, the oldest first, at most LEASES_SHOWN."""
    able = [
        person.membership.user
        for person in people
        if person.membership.role != Role.VIEWER and not person.membership.is_paused
    ]
    leases: QuerySet[Lease] = Lease.objects.select_related("annotator", "pair__prompt").filter(
        pair__study=study, pair__state=Pair.State.OPEN
    )
    now = timezone.now()
    return [
        HeldPair(
            lease=lease,
            has_run_out=lease.expires_at < now,
            others=()
            if lease.pair.reserved_for_id
            else tuple(user for user in able if user.pk != lease.annotator_id and not user.is_simulated),
        )
        for lease in leases.order_by("created_at", "pk")[:LEASES_SHOWN]
    ]


def invites_of(study: Study) -> list[ShownInvite]:
    """Return the study's links, the newest first."""
    invites = Invite.objects.select_related("study", "created_by").filter(study=study)
    return [ShownInvite(invite=invite, closed=closed_because(invite)) for invite in invites]


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
