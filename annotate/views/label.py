"""The labelling screen.

Each view answers a plain request with a page or a redirect, and a request of the page's script with a
fragment: the next pair, or the truth about why there is none. Showing a pair holds it for the person; that
lease is the one thing that these GETs write, and asking again changes nothing.
"""

import json
import uuid

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, pair_or_404, study_access
from annotate.errors import AlreadyLabelled, LabelRefused, TakenBackAlready
from annotate.forms import ActForm, JudgementForm, UndoForm, stored_edit, stored_verdict
from annotate.gate import one_at_a_time
from annotate.key_map import key_help, keys_of
from annotate.markdown import render_markdown
from annotate.models import Flag, Pair, Preference, Role, Side
from annotate.selectors.history import trail_of
from annotate.selectors.queue import QueueState, empty_reason, queue_state
from annotate.selectors.shown_pairs import ShownPair, show_pair
from annotate.services.drafts import draft_of, drop_draft
from annotate.services.preferences import (
    Judgement,
    record_and_lease_next,
    record_preference,
    skip_and_lease_next,
    skip_pair,
)
from annotate.services.profiles import guidelines_read
from annotate.services.queue import LeasedPair, lease_next_pair
from annotate.services.sides import side_of_token
from annotate.services.undo import undo_preference
from annotate.views.practice import practice_answer

LABELLERS = (Role.ANNOTATOR, Role.LEAD)
STOP_POLLING = 286
GONE = 410
INCOMPLETE = "The request is incomplete; reload the page and try again."


@require_GET
def label(request: HttpRequest, slug: str) -> HttpResponse:
    """The whole screen, with a pair or an empty state."""
    access = study_access(request, slug, *LABELLERS)
    leased = lease_next_pair(study=access.study, annotator=access.user)
    guidelines = {"guidelines_html": render_markdown(access.study.guidelines, is_document=True)}
    context = _stage(access, leased) | guidelines | _around(access, leased) | access.context("label")
    return _uncached(render(request, "annotate/label.html", context))


@require_GET
@one_at_a_time
def label_next(request: HttpRequest, slug: str) -> HttpResponse:
    """A fragment: the next pair, or with `?after=PAIR` the one after the pair on the screen (204: none)."""
    access = study_access(request, slug, *LABELLERS)
    after = _number(request.GET.get("after"))
    leased = lease_next_pair(study=access.study, annotator=access.user, beyond=after)
    if after is not None and leased is None:
        return HttpResponse(status=204)
    context = _stage(access, leased)
    reason = context["reason"]
    stop = reason is not None and not reason.looks_again  # type: ignore[attr-defined]
    return _fragment(request, context, status=STOP_POLLING if stop else 200)


@require_POST
@one_at_a_time
def label_judge(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Record a verdict; the answer is the next pair."""
    access = study_access(request, slug, *LABELLERS)
    pair = pair_or_404(pair_id, access=access)
    form = JudgementForm(request.POST)
    left_side = side_of_token(request.POST.get("shown", ""), pair_id=pair.pk, annotator_id=access.user.pk)
    if not form.is_valid() or left_side is None:
        sentence = (
            form.sentence()
            if form.errors
            else "This form belongs to another pair or person; reload the page."
        )
        return answer(request, access, problem=sentence, status=400)
    judgement = _judgement(form, left_side=left_side)
    try:
        preference, leased = _record(judgement, pair=pair, access=access, request=request)
    except AlreadyLabelled as refusal:
        return answer(request, access, problem=str(refusal), status=409, labelled=pair)
    except LabelRefused as refusal:
        return answer(request, access, problem=str(refusal), status=409)
    if form.cleaned_data["had_draft"]:
        drop_draft(pair=pair, annotator=access.user)
    return practice_answer(request, access, preference) or _done(request, access, leased, done="Saved")


@require_POST
@one_at_a_time
def label_skip(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Pass on a pair; the answer is the next one."""
    access = study_access(request, slug, *LABELLERS)
    pair = pair_or_404(pair_id, access=access)
    form = ActForm(request.POST)
    if not form.is_valid():
        return answer(request, access, problem=INCOMPLETE, status=400)
    try:
        leased = _skip(pair, client_id=form.cleaned_data["client_id"], access=access, request=request)
    except LabelRefused as refusal:
        return answer(request, access, problem=str(refusal), status=409)
    return _done(request, access, leased, done="Skipped")


@require_POST
@one_at_a_time
def label_undo(request: HttpRequest, slug: str) -> HttpResponse:
    """Take back the last label or skip; the answer is its pair, on the same sides.

    Sent again it takes back nothing more and has the same answer; see `undo_preference`.
    """
    access = study_access(request, slug, *LABELLERS)
    form = UndoForm(request.POST)
    if not form.is_valid():
        return answer(request, access, problem=INCOMPLETE, status=400)
    client_id = form.cleaned_data["client_id"] or uuid.uuid4()
    pair_id = form.cleaned_data["pair"]
    try:
        leased = undo_preference(
            study=access.study, annotator=access.user, client_id=client_id, pair_id=pair_id
        )
    except TakenBackAlready as refusal:
        return answer(request, access, problem=str(refusal), status=GONE)
    except LabelRefused as refusal:
        return answer(request, access, problem=str(refusal), status=409)
    if not request.htmx:  # type: ignore[attr-defined]
        messages.info(request, _taken_back(leased, pair_id=pair_id))
        return redirect("label", slug)
    draft_json = _draft_json(access, leased) if leased else ""
    return _fragment(request, _stage(access, leased) | {"draft_json": draft_json})


def _taken_back(leased: LeasedPair | None, *, pair_id: int | None) -> str:
    """Say what an undo has led to; sent again, it need not be the pair that it named."""
    if leased is None:
        return "Taken back; there is no pair for you now."
    if pair_id in (None, leased.pair.pk):
        return "Taken back; here is the pair again."
    return "That was taken back before; here is the pair that you hold now."


def _judgement(form: JudgementForm, *, left_side: Side) -> Judgement:
    return Judgement(
        verdict=stored_verdict(form.cleaned_data["verdict"], left_side=left_side),
        client_id=form.cleaned_data["client_id"],
        shown_left=left_side,
        duration_ms=form.cleaned_data["duration_ms"],
        version=form.cleaned_data["version"] or 0,
        strength=form.cleaned_data["strength"],
        rationale=form.cleaned_data["rationale"],
        edit=stored_edit(form, left_side=left_side),
    )


def _record(
    judgement: Judgement, *, pair: Pair, access: StudyAccess, request: HttpRequest
) -> tuple[Preference, LeasedPair | None]:
    """Record a judgement; where the answer is the next pair, hold that in the same transaction."""
    if not request.htmx or pair.purpose == Pair.Purpose.PRACTICE:  # type: ignore[attr-defined]
        return record_preference(pair=pair, annotator=access.user, **vars(judgement)), None
    return record_and_lease_next(
        judgement, pair=pair, annotator=access.user, study=access.study, beyond=_ahead(request)
    )


def _skip(
    pair: Pair, *, client_id: uuid.UUID | None, access: StudyAccess, request: HttpRequest
) -> LeasedPair | None:
    if not request.htmx:  # type: ignore[attr-defined]
        skip_pair(pair=pair, annotator=access.user, client_id=client_id)
        return None
    return skip_and_lease_next(
        pair=pair, annotator=access.user, study=access.study, client_id=client_id, beyond=_ahead(request)
    )


def answer(
    request: HttpRequest,
    access: StudyAccess,
    *,
    done: str = "",
    problem: str = "",
    status: int = 200,
    labelled: Pair | None = None,
) -> HttpResponse:
    """Answer a change: a redirect with a message, or the pair beyond the one that the page shows already.

    `labelled` is the pair whose label stands against what was sent.
    """
    if not request.htmx:  # type: ignore[attr-defined]
        return _led_back(request, access, done=done, problem=problem)
    leased = lease_next_pair(study=access.study, annotator=access.user, beyond=_ahead(request))
    context = _stage(access, leased) | {"problem": problem, "labelled": labelled}
    return _fragment(request, context, status=status)


def _done(request: HttpRequest, access: StudyAccess, leased: LeasedPair | None, *, done: str) -> HttpResponse:
    """Answer a change that has leased the next pair as well, where the page's script waits for it."""
    if not request.htmx:  # type: ignore[attr-defined]
        return _led_back(request, access, done=done)
    return _fragment(request, _stage(access, leased))


def _led_back(request: HttpRequest, access: StudyAccess, *, done: str, problem: str = "") -> HttpResponse:
    messages.add_message(request, messages.ERROR if problem else messages.SUCCESS, problem or f"{done}.")
    return redirect("label", access.study.slug)


def _ahead(request: HttpRequest) -> int | None:
    """Return the pair that the page has fetched ahead and shows already."""
    return _number(request.POST.get("ahead"))


def _stage(access: StudyAccess, leased: LeasedPair | None) -> dict[str, object]:
    """What the templates of the stage need: a pair or the reason why there is none, and the progress."""
    state: QueueState = queue_state(study=access.study, annotator=access.user)
    shown: ShownPair | None = show_pair(leased, annotator=access.user) if leased else None
    return {
        "study": access.study,
        "shown": shown,
        "client_id": uuid.uuid4(),
        "expires_at": leased.expires_at if leased else None,
        "state": state,
        "reason": None if shown else empty_reason(state, study=access.study, annotator=access.user),
        "keys": keys_of(access.user.keys),
    }


def _around(access: StudyAccess, leased: LeasedPair | None) -> dict[str, object]:
    """What only the whole page shows: what was done so far, a draft, hints, what to read."""
    read = guidelines_read(user=access.user, study=access.study)
    return {
        "trail": trail_of(study=access.study, annotator=access.user),
        "undo_id": uuid.uuid4(),
        "draft_json": _draft_json(access, leased) if leased else "",
        "guidelines_are_new": read != access.study.guidelines_version,
        "guidelines_changed": read is not None and read < access.study.guidelines_version,
        "flag_reasons": Flag.Reason.choices,
        "key_help": key_help(access.user.keys),
    }


def _draft_json(access: StudyAccess, leased: LeasedPair) -> str:
    draft = draft_of(pair=leased.pair, annotator=access.user)
    return json.dumps(draft) if draft else ""


def _fragment(request: HttpRequest, context: dict[str, object], *, status: int = 200) -> HttpResponse:
    return _uncached(render(request, "annotate/_answer.html", context, status=status))


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None
