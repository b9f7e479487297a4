"""Who may see which study. Each view of a study begins here."""

from dataclasses import dataclass

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest

from annotate.models import Membership, Pair, Role, Study, User
from annotate.prepared import prepare

_membership = prepare(
    lambda user, slug: Membership.objects.select_related("study").filter(user_id=user, study__slug=slug)
)
_pair = prepare(lambda pair, study: Pair.objects.filter(pk=pair, study_id=study))


@dataclass(frozen=True)
class StudyAccess:
    """A study and what the person who asks is in it."""

    study: Study
    role: Role
    user: User

    def context(self, section: str) -> dict[str, object]:
        """What `study_base.html` needs."""
        return {"study": self.study, "role": self.role.value, "section": section}


def pair_or_404(pair_id: int, *, access: StudyAccess) -> Pair:
    """Return a pair of the study; raises Http404 where the study has none with this number."""
    pair = _pair.first(pair=pair_id, study=access.study.pk)
    if pair is None:
        raise Http404
    return pair


def study_access(request: HttpRequest, slug: str, *roles: Role) -> StudyAccess:
    """Return the study if the person is in it with one of `roles` (none given: any role).

    Strangers get 404, so that they cannot learn which studies exist; members with another role get 403.
    A superuser is lead everywhere.
    """
    user = request.user
    if not isinstance(user, User):
        raise Http404
    membership = _membership.first(user=user.pk, slug=slug)
    if user.is_superuser:
        study = membership.study if membership else Study.objects.filter(slug=slug).first()
        role = Role.LEAD
    else:
        study = membership.study if membership else None
        role = Role(membership.role) if membership else Role.VIEWER
    if study is None:
        raise Http404
    if roles and role not in roles:
        raise PermissionDenied(
            f"Your role in this study is {role.label.lower()}; this page is not part of it."
        )
    return StudyAccess(study=study, role=role, user=user)
