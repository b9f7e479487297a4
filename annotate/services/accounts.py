"""Accounts: there is no open sign-up; a lead or a command makes them, with a password shown once."""

import secrets

from django.contrib.auth.validators import UnicodeUsernameValidator
from django.core.exceptions import ValidationError

from annotate.errors import MemberRefused
from annotate.models import User

PASSWORD_BYTES = 12


def create_user(
    *, username: str, display_name: str = "", simulated_rule: str = "", one_click_login: bool = False
) -> tuple[User, str]:
    """Create an account and return it with its random password, which is kept nowhere.

    `one_click_login` lets the demo's login page sign it in, from this machine only. Raises MemberRefused
    when the name is taken or not allowed.
    """
    username = username.strip()
    try:
        UnicodeUsernameValidator()(username)
    except ValidationError:
        raise MemberRefused(
            f"The username “{username}” is not possible; use letters, digits and . @ + - _ only."
        ) from None
    if len(username) > 150:
        raise MemberRefused("A username has at most 150 characters.")
    if User.objects.filter(username__iexact=username).exists():
        raise MemberRefused(f"The username “{username}” is taken; choose another one.")
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    user = User(
        username=username,
        first_name=display_name.strip()[:150],
        simulated_rule=simulated_rule,
        one_click_login=one_click_login,
    )
    user.set_password(password)
    user.save()
    return user, password
