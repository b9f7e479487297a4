"""Data going out."""

from django.http import HttpRequest, StreamingHttpResponse
from django.views.decorators.http import require_GET

from annotate.access import study_access
from annotate.models import Role
from annotate.selectors.exports import trl_lines


@require_GET
def export_preferences(request: HttpRequest, slug: str) -> StreamingHttpResponse:
    """Stream preferences as JSONL in TRL's conversational format; `?metadata=1` adds their origin."""
    access = study_access(request, slug, Role.LEAD)
    lines = trl_lines(study=access.study, metadata=request.GET.get("metadata") == "1")
    response = StreamingHttpResponse(lines, content_type="application/x-ndjson; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{access.study.slug}-preferences.jsonl"'
    return response
