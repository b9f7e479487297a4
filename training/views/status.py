from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from training.selectors.status import status_bar
from training.views.visitor import visitor


@require_GET
def status(request: HttpRequest) -> HttpResponse:
    """The state of the machinery for the top bar, which asks every ten seconds."""
    return render(request, "training/_status.html", {"status": status_bar(visitor(request))})
