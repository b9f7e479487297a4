"""Bringing a person into a study by name."""

from dataclasses import dataclass

from django.db import transaction

from annotate.models import Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.studies import add_member


@dataclass(frozen=True)
class Invited:
    """Who came in; `password` is set when the account was made just now."""

    user: User
    password: str | None


def invite_member(
    *, study: Study, username: str, display_name: str, role: Role, actor: User | None
) -> Invited:
    """Add the account with this username, or make one; raises MemberRefused with a sentence."""
    username = username.strip()
    with transaction.atomic():
        user = User.objects.filter(username__iexact=username).first()
        password = None
        if user is None:
            user, password = create_user(username=username, display_name=display_name)
        add_member(study=study, user=user, role=role, actor=actor)
    return Invited(user=user, password=password)
