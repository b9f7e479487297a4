"""Gold and practice pairs: listed, added by hand or from a file, withdrawn and put back."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.errors import CheckRefused, PromptFileError
from annotate.models import Pair, Role
from annotate.selectors.checks import known_pairs
from annotate.services.gold import (
    add_known_pair,
    import_known_pairs,
    restore_known_pair,
    withdraw_known_pair,
)
from annotate.services.prompts import read_lines
from annotate.team_forms import KnownPairForm, KnownPairImportForm, SwitchForm


@require_GET
def checks(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the practice and the gold pairs, with how people did on them."""
    return _page(request, study_access(request, slug, Role.LEAD))


@require_POST
def check_add(request: HttpRequest, slug: str) -> HttpResponse:
    """Add a pair typed by hand."""
    access = study_access(request, slug, Role.LEAD)
    form = KnownPairForm(request.POST)
    if not form.is_valid():
        return _page(request, access, form=form, status=400)
    purpose = Pair.Purpose(form.cleaned_data.pop("purpose"))
    try:
        add_known_pair(study=access.study, purpose=purpose, actor=access.user, **form.cleaned_data)
    except CheckRefused as refusal:
        form.add_error(None, str(refusal))
        return _page(request, access, form=form, status=409)
    messages.success(request, f"The {purpose.label.lower()} pair is in use.")
    return redirect("checks", slug)


@require_POST
def check_import(request: HttpRequest, slug: str) -> HttpResponse:
    """Add the pairs of a file, all or none; faults are listed line by line."""
    access = study_access(request, slug, Role.LEAD)
    form = KnownPairImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, access, import_form=form, status=400)
    purpose = Pair.Purpose(form.cleaned_data["purpose"])
    try:
        count = import_known_pairs(
            study=access.study,
            lines=read_lines(form.cleaned_data["file"]),
            purpose=purpose,
            actor=access.user,
        )
    except PromptFileError as error:
        return _page(request, access, import_form=form, file_error=error, status=400)
    messages.success(request, f"{count} {purpose.label.lower()} pairs were added.")
    return redirect("checks", slug)


@require_POST
def check_use(request: HttpRequest, slug: str, known_id: int) -> HttpResponse:
    """Withdraw a gold or practice pair, or put it back into use."""
    access = study_access(request, slug, Role.LEAD)
    templates = Pair.objects.filter(known_answer__isnull=False, study=access.study)
    template = get_object_or_404(templates.select_related("study"), pk=known_id)
    form = SwitchForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Reload the page and try again.")
    elif form.cleaned_data["on"]:
        restore_known_pair(template=template, actor=access.user)
        messages.success(request, "The pair is in use again.")
    else:
        withdraw_known_pair(template=template, actor=access.user)
        messages.success(request, "Nobody gets the pair any more; what was said of it stays.")
    return redirect("checks", slug)


def _page(
    request: HttpRequest,
    access: StudyAccess,
    *,
    form: KnownPairForm | None = None,
    import_form: KnownPairImportForm | None = None,
    file_error: PromptFileError | None = None,
    status: int = 200,
) -> HttpResponse:
    context = access.context("team") | {
        "subsection": "checks",
        "kinds": [
            ("practice", known_pairs(access.study, purpose=Pair.Purpose.PRACTICE)),
            ("gold", known_pairs(access.study, purpose=Pair.Purpose.GOLD)),
        ],
        "form": form or KnownPairForm(),
        "import_form": import_form or KnownPairImportForm(auto_id="import_%s"),
        "file_error": file_error,
    }
    return render(request, "annotate/checks.html", context, status=status)
