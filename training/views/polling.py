from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

STOP_POLLING = 286


def live_response(request: HttpRequest, template: str, *, context: dict[str, Any]) -> HttpResponse:
    """Render the fragments that a polling page swaps; 286 tells htmx to stop when nothing moves any more.

    `context["poll_seconds"]` is how often to ask again, None for never.
    """
    status = 200 if context["poll_seconds"] else STOP_POLLING
    return render(request, template, {**context, "swaps": True}, status=status)
