from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from annotate.models import User


def visitor(request: HttpRequest) -> User:
    """Return who asks, as an account. The middleware sends strangers to the login page before a view runs."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user
