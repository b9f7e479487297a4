"""A study's settings, for leads."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import StudyAccess, study_access
from annotate.errors import StudyRefused
from annotate.forms import StudySettingsForm
from annotate.models import Role, Study
from annotate.services.studies import StudySettings, update_settings


@require_http_methods(["GET", "HEAD", "POST"])
def study_settings(request: HttpRequest, slug: str) -> HttpResponse:
    """Show and change the settings."""
    access = study_access(request, slug, Role.LEAD)
    if request.method != "POST":
        return settings_page(request, access)
    form = StudySettingsForm(request.POST)
    if not form.is_valid():
        return settings_page(request, access, form=form, status=400)
    try:
        update_settings(study=access.study, settings=_settings(form), actor=access.user)
    except StudyRefused as refusal:
        form.add_error("name", str(refusal))
        return settings_page(request, access, form=form, status=409)
    messages.success(request, "The settings are saved.")
    return redirect("study-settings", slug)


def settings_page(
    request: HttpRequest,
    access: StudyAccess,
    *,
    form: StudySettingsForm | None = None,
    status: int = 200,
) -> HttpResponse:
    """Render the page with the form as given, or as the study is."""
    context = access.context("settings") | {
        "form": form or StudySettingsForm(initial=_initial(access.study)),
    }
    return render(request, "annotate/study_settings.html", context, status=status)


def _initial(study: Study) -> dict[str, object]:
    return {
        "name": study.name,
        "state": study.state,
        "labels_per_pair": study.labels_per_pair,
        "lease_minutes": max(1, study.lease_seconds // 60),
        "allow_tie": study.allow_tie,
        "allow_both_bad": study.allow_both_bad,
        "ask_strength": study.ask_strength,
        "allow_edit": study.allow_edit,
        "practice_pairs": study.practice_pairs,
        "gold_percent": f"{100 * study.gold_share:g}",
        "repeat_percent": f"{100 * study.repeat_share:g}",
    }


def _settings(form: StudySettingsForm) -> StudySettings:
    return StudySettings(
        name=form.cleaned_data["name"],
        state=Study.State(form.cleaned_data["state"]),
        labels_per_pair=form.cleaned_data["labels_per_pair"],
        lease_seconds=form.cleaned_data["lease_minutes"] * 60,
        allow_tie=form.cleaned_data["allow_tie"],
        allow_both_bad=form.cleaned_data["allow_both_bad"],
        ask_strength=form.cleaned_data["ask_strength"],
        allow_edit=form.cleaned_data["allow_edit"],
        practice_pairs=form.cleaned_data["practice_pairs"],
        gold_share=form.cleaned_data["gold_percent"] / 100,
        repeat_share=form.cleaned_data["repeat_percent"] / 100,
    )
