from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.models import Job, Run
from training.selectors.run_page import run_page
from training.selectors.runs import log_tail
from training.views.polling import live_response, metrics_response


@require_GET
def run_detail(request: HttpRequest, slug: str, number: int, run: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    return render(request, "training/run_detail.html", run_context(access, number=number, run=run))


@require_GET
def run_live(request: HttpRequest, slug: str, number: int, run: int) -> HttpResponse:
    """The parts of the run's page that change, for polling."""
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    return live_response(
        request, "training/_run_live.html", context=run_context(access, number=number, run=run)
    )


def run_context(access: StudyAccess, *, number: int, run: int) -> dict[str, Any]:
    page = run_page(run_of(access, number=number, run=run))
    return {
        **access.context("overview"),
        "page": page,
        "details": page.details,
        "may_act": access.role == Role.LEAD,
        "poll_seconds": page.poll_seconds,
    }


@require_GET
def run_metrics(request: HttpRequest, slug: str, number: int, run: int) -> JsonResponse:
    """The curves above `?after=STEP`, or all of them when `?attempt=` is not the present one."""
    item = run_of(study_access(request, slug, Role.LEAD, Role.VIEWER), number=number, run=run)
    return metrics_response(request, run=item, job=Job.objects.filter(run=item).first())


@require_GET
def run_log(request: HttpRequest, slug: str, number: int, run: int) -> HttpResponse:
    item = run_of(study_access(request, slug, Role.LEAD, Role.VIEWER), number=number, run=run)
    return render(request, "training/_run_log.html", {"log": log_tail(item)})


def run_of(access: StudyAccess, *, number: int, run: int) -> Run:
    runs = Run.objects.select_related("round__study__recipe", "round__sampled_policy", "policy", "started_by")
    return get_object_or_404(runs, round__study=access.study, round__number=number, number=run)
