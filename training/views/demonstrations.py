from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.demonstrations import DemonstrationsRefused
from training.forms.demonstration import DemonstrationForm
from training.models import DemonstrationRun, Job
from training.selectors.demonstrations import demonstration_page
from training.services.demonstrations import LearningRefused, start_learning, use_base
from training.views.polling import live_response, metrics_response


@require_http_methods(["GET", "POST"])
def demonstrations(request: HttpRequest, slug: str) -> HttpResponse:
    """A start from demonstrations: the form, and the runs so far."""
    access = study_access(request, slug, Role.LEAD)
    form = DemonstrationForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            run = start_learning(
                study=access.study, lines=form.lines(), settings=form.settings(), actor=access.user
            )
        except DemonstrationsRefused as refused:
            form.add_line_faults(refused)
        except LearningRefused as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(
                request,
                f"{run.examples:,} demonstrations are queued. They make the study's reference.",
            )
            return redirect("demonstrations", slug)
    context = {**context_of(access), "form": form}
    return render(request, "training/demonstrations.html", context, status=422 if form.errors else 200)


@require_GET
def demonstrations_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The runs, for polling."""
    access = study_access(request, slug, Role.LEAD)
    return live_response(request, "training/_demonstrations_live.html", context=context_of(access))


@require_GET
def demonstration_metrics(request: HttpRequest, slug: str, demonstration: int) -> JsonResponse:
    """The curves of a run on demonstrations."""
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(DemonstrationRun, study=access.study, number=demonstration)
    return metrics_response(request, run=item, job=Job.objects.filter(demonstration_run=item).first())


@require_POST
def demonstration_base(request: HttpRequest, slug: str, demonstration: int) -> HttpResponse:
    """Make a run's model the reference, or with `before` the model that the run started from."""
    access = study_access(request, slug, Role.LEAD)
    runs = DemonstrationRun.objects.select_related("study")
    item = get_object_or_404(runs, study=access.study, number=demonstration)
    try:
        use_base(run=item, before="before" in request.POST, actor=access.user)
    except LearningRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, "The study's reference is set; round 1 samples it.")
    return redirect("demonstrations", slug)


def context_of(access: StudyAccess) -> dict[str, Any]:
    page = demonstration_page(access.study)
    return {
        **access.context("settings"),
        "page": page,
        "may_act": access.role == Role.LEAD,
        "poll_seconds": page.poll_seconds,
    }
