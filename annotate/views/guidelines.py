"""The guidelines: everybody in the study reads them, leads write them."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import StudyAccess, study_access
from annotate.errors import StudyRefused
from annotate.forms import GuidelinesForm
from annotate.markdown import render_markdown
from annotate.models import Role
from annotate.selectors.guidelines import version_diff, versions_of
from annotate.services.guidelines import update_guidelines


@require_http_methods(["GET", "HEAD", "POST"])
def study_guidelines(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the guidelines, with a form for leads; saving publishes the next version."""
    access = study_access(request, slug)
    if request.method == "POST":
        return _publish(request, access)
    study = access.study
    form = GuidelinesForm(initial={"text": study.guidelines, "based_on": study.guidelines_version})
    return _page(request, access, form=form)


@require_GET
def guidelines_versions(request: HttpRequest, slug: str) -> HttpResponse:
    """List the versions, and show what changed between two of them."""
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    rows = versions_of(access.study)
    before, after = request.GET.get("before", ""), request.GET.get("after", "")
    context = access.context("team") | {
        "subsection": "guidelines",
        "rows": rows,
        "diff": version_diff(rows, before=before, after=after),
    }
    return render(request, "annotate/guidelines_versions.html", context)


def _publish(request: HttpRequest, access: StudyAccess) -> HttpResponse:
    if access.role != Role.LEAD:
        raise PermissionDenied("Only a lead writes the guidelines.")
    data = request.POST.copy()
    form = GuidelinesForm(data)
    if not form.is_valid():
        return _page(request, access, form=form, status=400)
    text, based_on = form.cleaned_data["text"], form.cleaned_data["based_on"]
    try:
        study = update_guidelines(study=access.study, text=text, actor=access.user, based_on=based_on)
    except StudyRefused as refusal:
        form.add_error("text", str(refusal))
        # What is saved next is based on the version that the sentence names.
        access.study.refresh_from_db()
        data["based_on"] = str(access.study.guidelines_version)
        return _page(request, access, form=form, status=409)
    messages.success(request, f"Version {study.guidelines_version} of the guidelines is in use from now on.")
    return redirect("study-guidelines", study.slug)


def _page(
    request: HttpRequest, access: StudyAccess, *, form: GuidelinesForm, status: int = 200
) -> HttpResponse:
    context = access.context("settings" if access.role == Role.LEAD else "") | {
        "form": form,
        "guidelines_html": render_markdown(access.study.guidelines, is_document=True),
    }
    return render(request, "annotate/guidelines.html", context, status=status)
