"""Flagging a pair: from the screen's dialog, or on a page of its own without JavaScript."""

import uuid

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods

from annotate.access import study_access
from annotate.errors import LabelRefused
from annotate.forms import FlagForm
from annotate.models import Flag, Pair, Role
from annotate.services.flags import flag_pair
from annotate.views.label import answer


@require_http_methods(["GET", "HEAD", "POST"])
def label_flag(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Ask for a reason, or flag the pair and answer with the next one."""
    access = study_access(request, slug, Role.ANNOTATOR, Role.LEAD)
    pair = get_object_or_404(Pair.objects.select_related("prompt"), pk=pair_id, study=access.study)
    if request.method != "POST":
        question = pair.prompt.messages[-1]["content"]
        context = {"form": FlagForm(), "question": question, "client_id": uuid.uuid4()}
        return render(request, "annotate/flag.html", context | access.context("label"))
    form = FlagForm(request.POST)
    if not form.is_valid():
        sentence = next(iter(form.errors.values()))[0]
        return answer(request, access, problem=str(sentence), status=400)
    said = form.cleaned_data
    reason, note, client_id = Flag.Reason(said["reason"]), said["note"], said["client_id"]
    try:
        flag_pair(pair=pair, annotator=access.user, reason=reason, note=note, client_id=client_id)
    except LabelRefused as refusal:
        return answer(request, access, problem=str(refusal), status=409)
    return answer(request, access, done="Flagged")
