from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.views.people import signed_in
from training.selectors.status import status_bar


@require_GET
def status(request: HttpRequest) -> HttpResponse:
    """The state of the machinery for the top bar, which asks every ten seconds."""
    return render(request, "training/_status.html", {"status": status_bar(signed_in(request))})
