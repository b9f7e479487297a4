"""The server's copy of what somebody has begun to say of a pair."""

import json

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_POST

from annotate.access import study_access
from annotate.errors import LabelRefused
from annotate.models import Pair, Role
from annotate.services.drafts import save_draft


@require_POST
def label_draft(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Keep a draft, sent as JSON in `content`; an empty object removes it.

    `?of=label` says that it is of a change to a label that was given before.
    """
    access = study_access(request, slug, Role.ANNOTATOR, Role.LEAD)
    pair = get_object_or_404(Pair, pk=pair_id, study=access.study)
    try:
        content = json.loads(request.POST.get("content", ""))
    except ValueError:
        return HttpResponse("A draft is a JSON object.", status=400, content_type="text/plain")
    if not isinstance(content, dict):
        return HttpResponse("A draft is a JSON object.", status=400, content_type="text/plain")
    try:
        save_draft(
            pair=pair,
            annotator=access.user,
            content=content,
            of_label=request.GET.get("of") == "label",
        )
    except LabelRefused as refusal:
        return HttpResponse(str(refusal), status=409, content_type="text/plain")
    return HttpResponse(status=204)
