"""One's own labels: the list, one of them again, changing it, and taking a skipped pair back."""

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import StudyAccess, study_access
from annotate.errors import LabelRefused
from annotate.forms import ChangeForm, stored_edit, stored_verdict
from annotate.key_map import key_help, keys_of
from annotate.models import Flag, Pair, Preference, Role, Side
from annotate.selectors.history import (
    SHOWN_NAMES,
    STRENGTHS,
    history_of,
    revisions_of,
    shown_verdict,
    why_frozen,
)
from annotate.selectors.shown_pairs import show_sides
from annotate.services.drafts import draft_of, drop_draft
from annotate.services.flags import take_skipped_pair_back
from annotate.services.preferences import change_preference

LABELLERS = (Role.ANNOTATOR, Role.LEAD)
SAID = ("verdict", "strength", "rationale", "edit_side", "edit_text")


@require_GET
def history(request: HttpRequest, slug: str) -> HttpResponse:
    """List one's own labels, searched by `q` and filtered by `show`."""
    access = study_access(request, slug, *LABELLERS)
    page = request.GET.get("page", "")
    found = history_of(
        study=access.study,
        annotator=access.user,
        search=request.GET.get("q", "")[:200],
        chosen=request.GET.get("show", ""),
        page=int(page) if page.isdecimal() and len(page) < 9 else 1,
    )
    return render(request, "annotate/history.html", {"history": found} | access.context("history"))


@require_http_methods(["GET", "HEAD", "POST"])
def history_pair(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Show one of one's own labels as it was given; a POST changes it while its round is open."""
    access = study_access(request, slug, *LABELLERS)
    pair = get_object_or_404(
        Pair.objects.select_related("study", "prompt", "response_a", "response_b"),
        pk=pair_id,
        study=access.study,
    )
    label = Preference.objects.filter(pair=pair, annotator=access.user).select_related("edited_response")
    preference = label.first()
    if preference is None:
        messages.error(request, "You have no label on this pair; there is nothing to see or change.")
        return redirect("history", slug)
    if request.method == "POST":
        return _change(request, access, pair=pair, preference=preference)
    return _page(request, access, pair=pair, preference=preference)


@require_POST
def history_take_back(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Get a skipped pair again: it is the next one on the labelling screen."""
    access = study_access(request, slug, *LABELLERS)
    pair = get_object_or_404(Pair, pk=pair_id, study=access.study)
    try:
        take_skipped_pair_back(pair=pair, annotator=access.user)
    except LabelRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("history", slug)
    messages.success(request, "Here is the pair that you had skipped.")
    return redirect("label", slug)


def _change(request: HttpRequest, access: StudyAccess, *, pair: Pair, preference: Preference) -> HttpResponse:
    form = ChangeForm(request.POST)
    if not form.is_valid():
        return _page(request, access, pair=pair, preference=preference, problem=form.sentence(), status=400)
    left_side = Side(preference.shown_left)
    try:
        change_preference(
            pair=pair,
            annotator=access.user,
            verdict=stored_verdict(form.cleaned_data["verdict"], left_side=left_side),
            strength=form.cleaned_data["strength"],
            rationale=form.cleaned_data["rationale"],
            edit=stored_edit(form, left_side=left_side),
            stamp=form.cleaned_data["stamp"],
        )
    except LabelRefused as refusal:
        return _page(request, access, pair=pair, preference=preference, problem=str(refusal), status=409)
    drop_draft(pair=pair, annotator=access.user)
    messages.success(request, "Your label is changed; what you said before is kept below.")
    return redirect("history-pair", access.study.slug, pair.pk)


def _page(
    request: HttpRequest,
    access: StudyAccess,
    *,
    pair: Pair,
    preference: Preference,
    problem: str = "",
    status: int = 200,
) -> HttpResponse:
    """Show a label, and instead of a draft what was typed into a change that was refused."""
    left_side = Side(preference.shown_left)
    edit = preference.edited_response
    typed = {name: request.POST[name] for name in SAID if request.POST.get(name)}
    said = {
        "verdict": shown_verdict(preference.verdict, left_side=left_side),
        "strength": preference.strength,
        "rationale": preference.rationale,
        "edit_side": "" if edit is None else "left" if preference.edited_side == left_side else "right",
        "edit_text": "" if edit is None else edit.text,
    }
    context = access.context("history") | {
        "shown": show_sides(pair, left_side=left_side, annotator=access.user),
        "said": said,
        "said_json": json.dumps(said),
        "stamp": preference.stamp,
        "typed": typed,
        "draft_json": _json(typed or draft_of(pair=pair, annotator=access.user)),
        "said_name": SHOWN_NAMES[str(said["verdict"])],
        "said_strength": STRENGTHS.get(preference.strength or 0, ""),
        "labelled_at": preference.created_at,
        "revisions": revisions_of(pair=pair, annotator=access.user),
        "flag": Flag.objects.filter(pair=pair, annotator=access.user).first(),
        "why_frozen": why_frozen(pair),
        "keys": keys_of(access.user.keys),
        "key_help": key_help(access.user.keys),
        "problem": problem,
    }
    return render(request, "annotate/history_pair.html", context, status=status)


def _json(draft: dict[str, Any] | None) -> str:
    return json.dumps(draft) if draft else ""
