"""How good the labels are: figures of the study and of each annotator."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotate.access import study_access
from annotate.models import Role
from annotate.quality.charts import day_bars
from annotate.selectors.quality import LATEST_LABELS, study_quality

READERS = (Role.LEAD, Role.VIEWER)


@require_GET
def quality(request: HttpRequest, slug: str) -> HttpResponse:
    """Show agreement, consistency, gold answers, habits and speed, with what deserves a look."""
    access = study_access(request, slug, *READERS)
    figures = study_quality(access.study)
    context = access.context("team") | {
        "subsection": "quality",
        "quality": figures,
        "bars": day_bars([(day.day, day.labels) for day in figures.days]),
        "latest": LATEST_LABELS,
    }
    return render(request, "annotate/quality.html", context)
