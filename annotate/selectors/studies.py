"""Studies as the home and settings pages list them."""

from dataclasses import dataclass
from typing import Any

from django.db.models import Count, F, Q, QuerySet

from annotate.models import Membership, Pair, Preference, Prompt, Role, Split, Study, User


@dataclass(frozen=True)
class StudyCard:
    """A study as its member sees it on the home page."""

    study: Study
    role: Role
    prompts: int
    pairs: int
    open_pairs: int
    my_labels: int


def studies_of(user: User) -> list[StudyCard]:
    """Return the studies a person is in, or all of them for a superuser, by name."""
    roles = {
        membership.study_id: Role(membership.role) for membership in Membership.objects.filter(user=user)
    }
    studies = Study.objects.all() if user.is_superuser else Study.objects.filter(pk__in=roles)
    studies = studies.order_by("name")
    prompts = _count_by_study(Prompt.objects.filter(study__in=studies).exclude(split=Split.CHECK))
    pairs = _count_by_study(_common_pairs(studies))
    is_open = Q(state=Pair.State.OPEN, slots_taken__lt=F("labels_wanted"))
    open_pairs = _count_by_study(_common_pairs(studies).filter(is_open))
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


def _count_by_study(rows: QuerySet[Any]) -> dict[int, int]:
    return dict(rows.order_by().values_list("study").annotate(n=Count("pk")))


def _common_pairs(studies: QuerySet[Study]) -> QuerySet[Pair]:
    """The pairs that are there for everybody: no templates, and nobody's own copies."""
    return Pair.objects.filter(study__in=studies, purpose__in=[Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE])


def labellers_of(study: Study) -> list[User]:
    """Return the members who may label, by name."""
    members = Membership.objects.select_related("user").filter(study=study).exclude(role=Role.VIEWER)
    return [member.user for member in members.order_by("user__username")]


def may_create_studies(user: User) -> bool:
    """Return whether the person may make a study: administrators, and whoever leads one already."""
    return user.is_superuser or user.is_staff or user.memberships.filter(role=Role.LEAD).exists()
