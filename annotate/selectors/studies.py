"""Studies as the home and settings pages list them."""

from dataclasses import dataclass

from django.db.models import Count, F, Q, QuerySet

from annotate.models import Membership, Pair, Preference, Role, Study, User


@dataclass(frozen=True)
class StudyCard:
    """A study as its member sees it on the home page."""

    study: Study
    role: Role
    prompts: int
    pairs: int
    open_pairs: int
    my_labels: int


@dataclass(frozen=True)
class Member:
    """A member with what they have done in the study."""

    membership: Membership
    labels: int
    holding: int
    is_only_lead: bool


def studies_of(user: User) -> list[StudyCard]:
    """Return the studies a person is in, or all of them for a superuser, by name."""
    roles = {
        membership.study_id: Role(membership.role) for membership in Membership.objects.filter(user=user)
    }
    studies = Study.objects.all() if user.is_superuser else Study.objects.filter(pk__in=roles)
    studies = studies.order_by("name")
    prompts = _count_by_study(Study.objects.filter(pk__in=studies), "prompts")
    pairs = _count_by_study(Study.objects.filter(pk__in=studies), "pairs")
    open_pairs = _open_pairs(studies)
    labels = Preference.objects.filter(annotator=user, pair__study__in=studies).values_list("pair__study")
    mine = dict(labels.annotate(n=Count("pk")))
    return [
        StudyCard(
            study=study,
            role=Role.LEAD if user.is_superuser else roles[study.pk],
            prompts=prompts.get(study.pk, 0),
            pairs=pairs.get(study.pk, 0),
            open_pairs=open_pairs.get(study.pk, 0),
            my_labels=mine.get(study.pk, 0),
        )
        for study in studies
    ]


def members_of(study: Study) -> list[Member]:
    """Return the members, leads first, with their labels and the pairs they hold."""
    members = list(Membership.objects.select_related("user").filter(study=study))
    labels = dict(
        Preference.objects.filter(pair__study=study).values_list("annotator").annotate(n=Count("pk"))
    )
    people = User.objects.filter(leases__pair__study=study).values_list("pk").annotate(n=Count("leases"))
    holding = dict(people)
    leads = [member for member in members if member.role == Role.LEAD]
    members.sort(key=lambda member: (list(Role).index(Role(member.role)), member.user.username.lower()))
    return [
        Member(
            membership=member,
            labels=labels.get(member.user_id, 0),
            holding=holding.get(member.user_id, 0),
            is_only_lead=leads == [member],
        )
        for member in members
    ]


def _count_by_study(studies: QuerySet[Study], relation: str) -> dict[int, int]:
    return dict(studies.order_by().values_list("pk").annotate(n=Count(relation)))


def _open_pairs(studies: QuerySet[Study]) -> dict[int, int]:
    is_open = Q(state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))
    pairs = Pair.objects.filter(is_open, study__in=studies)
    return dict(pairs.order_by().values_list("study").annotate(n=Count("pk")))


def labellers_of(study: Study) -> list[User]:
    """Return the members who may label, by name."""
    members = Membership.objects.select_related("user").filter(study=study).exclude(role=Role.VIEWER)
    return [member.user for member in members.order_by("user__username")]


def may_create_studies(user: User) -> bool:
    """Return whether the person may make a study: administrators, and whoever leads one already."""
    return user.is_superuser or user.is_staff or user.memberships.filter(role=Role.LEAD).exists()
