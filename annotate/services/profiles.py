"""What people set for themselves: name, theme, keys; and what they have read and put away."""

from annotate.key_map import ACTIONS, key_problems, keys_of, own_keys
from annotate.models import Membership, Study, User


def update_profile(*, user: User, display_name: str, theme: User.Theme) -> None:
    """Set the name that others see and the theme."""
    user.first_name, user.last_name = display_name.strip()[:150], ""
    user.theme = theme
    user.save(update_fields=["first_name", "last_name", "theme"])


def set_theme(*, user: User, theme: User.Theme) -> None:
    """Set the theme alone, as the account menu does."""
    user.theme = theme
    user.save(update_fields=["theme"])


def set_keys(*, user: User, chosen: dict[str, str]) -> dict[str, str]:
    """Set a person's keys; returns what is wrong per action, and then sets nothing."""
    full = keys_of({action: key for action, key in chosen.items() if action in ACTIONS})
    problems = {problem.action: problem.sentence for problem in key_problems(full)}
    if not problems:
        user.keys = own_keys(full)
        user.save(update_fields=["keys"])
    return problems


def reset_keys(*, user: User) -> None:
    """Go back to the usual keys."""
    user.keys = {}
    user.save(update_fields=["keys"])


def dismiss_hints(*, user: User) -> None:
    """Never show the first pair's hints again."""
    User.objects.filter(pk=user.pk).update(hints_dismissed=True)


def mark_guidelines_read(*, user: User, study: Study) -> None:
    """Remember which version of the guidelines a member has opened."""
    Membership.objects.filter(user=user, study=study).update(guidelines_read=study.guidelines_version)


def guidelines_read(*, user: User, study: Study) -> int | None:
    """Return the version that a member opened last, None when they opened none."""
    read: int | None = (
        Membership.objects.filter(user=user, study=study).values_list("guidelines_read", flat=True).first()
    )
    return read
