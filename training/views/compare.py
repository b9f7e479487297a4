from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import study_access
from annotate.models import Role
from training.forms import compare_query
from training.selectors.compare import comparison


@require_GET
def compare(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    shown = comparison(access.study, query=compare_query(request.GET))
    return render(request, "training/compare.html", {**access.context("compare"), "comparison": shown})
