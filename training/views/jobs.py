from collections.abc import Callable

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from annotate.access import study_access
from annotate.models import Role
from training.models import Job
from training.services.jobs import JobRefused, request_cancel, retry_job


@require_POST
def job_cancel(request: HttpRequest, slug: str, job_id: int) -> HttpResponse:
    return act_on_job(request, slug, job_id, action=request_cancel, said="The job is being cancelled.")


@require_POST
def job_retry(request: HttpRequest, slug: str, job_id: int) -> HttpResponse:
    return act_on_job(request, slug, job_id, action=retry_job, said="The job is queued again.")


def act_on_job(
    request: HttpRequest, slug: str, job_id: int, *, action: Callable[..., None], said: str
) -> HttpResponse:
    """Do one thing to a job of the study and go back to the page the person came from."""
    access = study_access(request, slug, Role.LEAD)
    job = get_object_or_404(
        Job.objects.select_related("round", "run", "study"), pk=job_id, study=access.study
    )
    try:
        action(job=job, actor=access.user)
    except JobRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, said)
    came_from = request.POST.get("next", "")
    if came_from and url_has_allowed_host_and_scheme(came_from, allowed_hosts=None):
        return redirect(came_from)
    return redirect("study-detail", slug)
