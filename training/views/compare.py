"""The comparison: side by side, one prompt through all rounds, figures, and files to take along."""

from collections.abc import Callable, Iterator

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from annotate.access import study_access
from annotate.models import Prompt, Role, Study
from training.forms.compare import compare_query
from training.models import Policy
from training.selectors.compare import comparison, study_policies
from training.selectors.compare_export import Record, csv_lines, export_records, json_lines
from training.selectors.compare_order import heldout_tags, prompt_list
from training.selectors.compare_plots import figure_plots
from training.selectors.compare_prompt import prompt_stages
from training.selectors.compare_query import Columns, CompareQuery, columns_of
from training.services.comparison import measure_columns, refresh_summaries

READERS = (Role.LEAD, Role.VIEWER)


@require_GET
def compare(request: HttpRequest, slug: str) -> HttpResponse:
    """Show policies side by side on the held-out prompts."""
    access = study_access(request, slug, *READERS)
    query = compare_query(request.GET)
    policies, columns, unmeasured = prepared(access.study, query=query)
    uncounted = refresh_summaries(columns.policies, tag=query.tag)
    shown = comparison(access.study, policies=policies, columns=columns, query=query, unmeasured=unmeasured)
    context = {
        "comparison": shown,
        "uncounted": uncounted,
        "link": link_of(request),
        "view": "columns",
    }
    return render(request, "training/compare.html", {**access.context("compare"), **context})


@require_GET
def compare_prompt(request: HttpRequest, slug: str, prompt_id: int) -> HttpResponse:
    """Show one prompt through all rounds; the next prompt is the next one of the list it was opened from."""
    access = study_access(request, slug, *READERS)
    prompt = get_object_or_404(Prompt, pk=prompt_id, study=access.study)
    query = compare_query(request.GET)
    _, columns, _ = prepared(access.study, query=query)
    listed = prompt_list(access.study, columns=columns, query=query)
    previous, following = listed.around(prompt.pk)
    context = {
        "prompt": prompt,
        "stages": prompt_stages(prompt, with_diff=query.with_diff, beta=access.study.recipe.beta),
        "query": query,
        "previous": previous,
        "following": following,
        "place": listed.place(prompt.pk),
        "listed": len(listed.prompts),
        "link": link_of(request),
    }
    return render(request, "training/compare_prompt.html", {**access.context("compare"), **context})


@require_GET
def compare_figures(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the figures of all policies as plots, with their tables."""
    access = study_access(request, slug, *READERS)
    policies, tag = study_policies(access.study), compare_query(request.GET).tag
    uncounted = refresh_summaries(policies, tag=tag)
    context = {
        "uncounted": uncounted,
        "plots": figure_plots(access.study, policies=policies, tag=tag),
        "tag": tag,
        "tags": heldout_tags(access.study),
        "view": "figures",
    }
    return render(request, "training/compare_figures.html", {**access.context("compare"), **context})


@require_GET
def compare_jsonl(request: HttpRequest, slug: str) -> StreamingHttpResponse:
    """Stream what the link shows, a prompt a line."""
    return exported(request, slug, lines=json_lines, kind="application/x-ndjson", ending="jsonl")


@require_GET
def compare_csv(request: HttpRequest, slug: str) -> StreamingHttpResponse:
    """Stream what the link shows, a response a line."""
    return exported(request, slug, lines=csv_lines, kind="text/csv", ending="csv")


def exported(
    request: HttpRequest,
    slug: str,
    *,
    lines: Callable[[Iterator[Record]], Iterator[str]],
    kind: str,
    ending: str,
) -> StreamingHttpResponse:
    access = study_access(request, slug, *READERS)
    query = compare_query(request.GET)
    _, columns, _ = prepared(access.study, query=query)
    listed = prompt_list(access.study, columns=columns, query=query)
    records = export_records(access.study, listed=listed, columns=columns)
    response = StreamingHttpResponse(lines(records), content_type=f"{kind}; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{slug}-comparison.{ending}"'
    return response


def prepared(study: Study, *, query: CompareQuery) -> tuple[list[Policy], Columns, int]:
    """Return all policies, the columns that the query asks for, and how many prompts are not compared yet."""
    policies = study_policies(study)
    columns = columns_of(policies, query=query)
    return policies, columns, measure_columns(columns, slot=query.slot)


def link_of(request: HttpRequest) -> str:
    """Return the query string without its page, to carry what was chosen from view to view."""
    values = request.GET.copy()
    values.pop("page", None)
    return values.urlencode()
