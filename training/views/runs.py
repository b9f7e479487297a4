from dataclasses import asdict

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.models import Job, Run
from training.selectors.metrics import run_curves
from training.selectors.runs import log_tail


@require_GET
def run_metrics(request: HttpRequest, slug: str, number: int, run: int) -> JsonResponse:
    """The curves above `?after=STEP`, or all of them when `?attempt=` is not the present one."""
    item = run_of(study_access(request, slug, Role.LEAD, Role.VIEWER), number=number, run=run)
    job = Job.objects.filter(run=item).first()
    attempt = job.attempt_number if job else 0
    is_same = request.GET.get("attempt", str(attempt)) == str(attempt)
    curves = run_curves(item, after=step_number(request.GET.get("after", "")) if is_same else -1)
    return JsonResponse(
        {**asdict(curves), "restart": not is_same, "attempt": attempt, "active": bool(job and job.is_active)}
    )


@require_GET
def run_log(request: HttpRequest, slug: str, number: int, run: int) -> HttpResponse:
    item = run_of(study_access(request, slug, Role.LEAD, Role.VIEWER), number=number, run=run)
    return render(request, "training/_run_log.html", {"log": log_tail(item)})


def run_of(access: StudyAccess, *, number: int, run: int) -> Run:
    return get_object_or_404(Run, round__study=access.study, round__number=number, number=run)


def step_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else -1
