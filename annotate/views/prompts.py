"""The prompts of a study: listed, searched, opened, imported."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.errors import PromptFileError
from annotate.forms import PromptImportForm
from annotate.models import Prompt, Role
from annotate.selectors.prompts import PromptFilter, prompt_counts, prompt_page, shown_responses
from annotate.selectors.shown_pairs import show_prompt
from annotate.services.prompts import ImportReport, import_prompts, read_lines

READERS = (Role.LEAD, Role.VIEWER)


@require_GET
def prompt_list(request: HttpRequest, slug: str) -> HttpResponse:
    """List the prompts, with the import form for leads."""
    access = study_access(request, slug, *READERS)
    return _list(request, access, form=PromptImportForm())


@require_GET
def prompt_detail(request: HttpRequest, slug: str, prompt_id: int) -> HttpResponse:
    """Show a prompt and the responses to it, without saying who wrote them."""
    access = study_access(request, slug, *READERS)
    prompt = get_object_or_404(Prompt, pk=prompt_id, study=access.study)
    context = access.context("prompts") | {
        "prompt": prompt,
        "shown": show_prompt(prompt),
        "responses": shown_responses(prompt),
    }
    return render(request, "annotate/prompt_detail.html", context)


@require_POST
def prompt_import(request: HttpRequest, slug: str) -> HttpResponse:
    """Import a prompt file; faults are listed line by line under the form."""
    access = study_access(request, slug, Role.LEAD)
    form = PromptImportForm(request.POST, request.FILES)
    if not form.is_valid():
        return _list(request, access, form=form, status=400)
    try:
        report = import_prompts(
            study=access.study,
            lines=read_lines(form.cleaned_data["file"]),
            heldout_share=form.cleaned_data["heldout_percent"] / 100,
            actor=access.user,
        )
    except PromptFileError as error:
        return _list(request, access, form=form, file_error=error, status=400)
    messages.success(request, _sentence(report))
    return redirect("prompt-list", slug)


def _list(
    request: HttpRequest,
    access: StudyAccess,
    *,
    form: PromptImportForm,
    file_error: PromptFileError | None = None,
    status: int = 200,
) -> HttpResponse:
    wanted = PromptFilter(text=request.GET.get("q", "").strip()[:200], split=request.GET.get("split", ""))
    context = access.context("prompts") | {
        "wanted": wanted,
        "counts": prompt_counts(access.study),
        "page": prompt_page(access.study, wanted=wanted, number=request.GET.get("page", "1")),
        "form": form,
        "file_error": file_error,
    }
    return render(request, "annotate/prompt_list.html", context, status=status)


def _sentence(report: ImportReport) -> str:
    parts = [
        f"{report.created} prompts were imported: {report.train} to train on, {report.heldout} held out."
    ]
    if report.duplicates:
        parts.append(f"{report.duplicates} were here already and stay as they are.")
    if report.ignored_keys:
        parts.append(f"Keys that were left out: {', '.join(report.ignored_keys)}.")
    return " ".join(parts)
