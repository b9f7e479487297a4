"""The person behind a request."""

from django.http import Http404, HttpRequest

from annotate.models import User


def signed_in(request: HttpRequest) -> User:
    """Return the signed-in person; the middleware lets nobody else this far."""
    if not isinstance(request.user, User):
        raise Http404
    return request.user
