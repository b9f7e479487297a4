"""Where people land: their studies."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET

from annotate.models import Role
from annotate.selectors.studies import may_create_studies, studies_of
from annotate.views.people import signed_in


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """List the person's studies; an annotator with a single one lands on its pairs."""
    user = signed_in(request)
    cards = studies_of(user)
    if len(cards) == 1 and cards[0].role == Role.ANNOTATOR:
        return redirect("label", cards[0].study.slug)
    context = {"cards": cards, "may_create": may_create_studies(user)}
    return render(request, "annotate/home.html", context)
