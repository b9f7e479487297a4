from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import StudyAccess, study_access
from annotate.errors import MemberRefused, PromptFileError, StudyRefused
from annotate.models import Role
from annotate.selectors.studies import may_create_studies
from annotate.views.people import signed_in
from training.forms.study import StudyForm
from training.selectors.studies import study_overview, suggested_base_model
from training.services.base_models import BaseModelError
from training.services.studies import create_training_study
from training.views.polling import live_response


@require_http_methods(["GET", "POST"])
def study_create(request: HttpRequest) -> HttpResponse:
    lead = signed_in(request)
    if not may_create_studies(lead):
        raise PermissionDenied("Only people who lead a study, or administrators, create studies.")
    form = StudyForm(
        request.POST or None, request.FILES or None, initial={"base_model": suggested_base_model()}
    )
    if request.method == "POST" and form.is_valid():
        try:
            study = create_training_study(lead=lead, **form.service_arguments())
        except BaseModelError as error:
            form.add_error("base_model", str(error))
        except PromptFileError as error:
            form.add_prompt_errors(error)
        except StudyRefused as error:
            form.add_error("name", str(error))
        except MemberRefused as error:
            form.add_error("members", str(error))
        else:
            messages.success(
                request, f"The study “{study.name}” is ready. Open round 1 to sample the first pairs."
            )
            return redirect("study-detail", study.slug)
    return render(request, "training/study_create.html", {"form": form}, status=422 if form.errors else 200)


@require_GET
def study_detail(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    return render(
        request,
        "training/study_detail.html",
        overview_context(access, rounds=request.GET.get("rounds", "")),
    )


@require_GET
def study_live(request: HttpRequest, slug: str) -> HttpResponse:
    """The parts of the study home that change, for polling."""
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    context = overview_context(access, rounds=request.GET.get("rounds", ""))
    return live_response(request, "training/_study_live.html", context=context)


def overview_context(access: StudyAccess, *, rounds: str) -> dict[str, Any]:
    overview = study_overview(access.study, shows_all_rounds=rounds == "all")
    return {
        **access.context("overview"),
        "overview": overview,
        "may_act": access.role == Role.LEAD,
        "poll_seconds": overview.poll_seconds,
    }
