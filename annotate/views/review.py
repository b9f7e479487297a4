"""A lead looks at what people disagree on, flagged or passed over, and decides. Annotators never see this."""

from collections.abc import Callable
from dataclasses import replace

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.errors import Refused
from annotate.models import Flag, Pair, Role, Verdict
from annotate.selectors.conflicts import (
    NOTHING_SAYS,
    ReviewFilter,
    next_to_review,
    review_filter,
    review_queues,
)
from annotate.selectors.reviewed_pair import reviewed_pair
from annotate.selectors.studies import labellers_of
from annotate.services.gold import make_known_pair
from annotate.services.resolutions import resolve_pair, take_back_resolution
from annotate.services.review import answer_flag, reopen_flag, restore_pair, withdraw_pair
from annotate.team_forms import FlagAnswerForm, MakeKnownForm, ResolutionForm

READERS = (Role.LEAD, Role.VIEWER)


@require_GET
def review(request: HttpRequest, slug: str) -> HttpResponse:
    """List a queue of pairs."""
    access = study_access(request, slug, *READERS)
    wanted = replace(review_filter(request.GET.dict()), pairs=())
    context = access.context("team") | {
        "subsection": "review",
        "wanted": wanted,
        "queues": review_queues(access.study, wanted=wanted, number=request.GET.get("page", "1")),
        "nothing": NOTHING_SAYS[wanted.kind],
        "people": labellers_of(access.study),
        "reasons": Flag.Reason.choices,
    }
    return render(request, "annotate/review.html", context)


@require_GET
def review_pair(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Show one pair with everybody's labels, and the forms to decide on it."""
    access = study_access(request, slug, *READERS)
    pair = _pair(access, pair_id)
    wanted = review_filter(request.GET.dict())
    context = access.context("team") | {
        "subsection": "review",
        "wanted": wanted,
        "shown": reviewed_pair(pair),
        "next_id": next_to_review(access.study, wanted=wanted, after=pair.pk),
        "decisions": [*Verdict.choices],
    }
    return render(request, "annotate/review_pair.html", context)


@require_POST
def pair_resolve(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Decide on a pair; the answer is the next one of the queue."""
    access = study_access(request, slug, Role.LEAD)
    pair = _pair(access, pair_id)
    form = ResolutionForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose a verdict, or leave the pair out.")
        return _to_pair(request, access, pair)
    note = form.cleaned_data["note"]
    return _act(
        request,
        access,
        pair,
        lambda: resolve_pair(pair=pair, verdict=form.verdict, note=note, actor=access.user),
        done=f"Pair {pair.pk} is decided; you find it under “Decided”.",
    )


@require_POST
def pair_unresolve(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Let the votes decide again."""
    access = study_access(request, slug, Role.LEAD)
    pair = _pair(access, pair_id)
    take_back_resolution(pair=pair, actor=access.user)
    messages.success(request, f"The decision on pair {pair.pk} is taken back; its votes count again.")
    return _to_pair(request, access, pair)


@require_POST
def pair_withdraw(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Take a pair out of the queue and of training sets."""
    access = study_access(request, slug, Role.LEAD)
    pair = _pair(access, pair_id)
    return _act(
        request,
        access,
        pair,
        lambda: withdraw_pair(pair=pair, actor=access.user),
        done=f"Pair {pair.pk} is withdrawn; you find it under “Decided”, where it can be put back.",
    )


@require_POST
def pair_restore(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Put a withdrawn pair back into the queue."""
    access = study_access(request, slug, Role.LEAD)
    pair = _pair(access, pair_id)
    restore_pair(pair=pair, actor=access.user)
    messages.success(request, f"Pair {pair.pk} is in the queue again.")
    return _to_pair(request, access, pair)


@require_POST
def flag_answer(request: HttpRequest, slug: str, flag_id: int) -> HttpResponse:
    """Answer a flag; the answer is the next pair of the queue."""
    access = study_access(request, slug, Role.LEAD)
    flag = get_object_or_404(Flag.objects.select_related("pair__study"), pk=flag_id, pair__study=access.study)
    form = FlagAnswerForm(request.POST)
    answer = form.cleaned_data["answer"] if form.is_valid() else ""
    return _act(
        request,
        access,
        flag.pair,
        lambda: answer_flag(flag=flag, answer=answer, actor=access.user),
        done=f"The flag on pair {flag.pair_id} is closed.",
    )


@require_POST
def flag_reopen(request: HttpRequest, slug: str, flag_id: int) -> HttpResponse:
    """Put a flag back among those that wait."""
    access = study_access(request, slug, Role.LEAD)
    flag = get_object_or_404(Flag.objects.select_related("pair__study"), pk=flag_id, pair__study=access.study)
    reopen_flag(flag=flag, actor=access.user)
    messages.success(request, f"The flag on pair {flag.pair_id} waits again.")
    return _to_pair(request, access, flag.pair)


@require_POST
def pair_make_known(request: HttpRequest, slug: str, pair_id: int) -> HttpResponse:
    """Make a gold or practice pair of a pair of the queue."""
    access = study_access(request, slug, Role.LEAD)
    pair = _pair(access, pair_id)
    form = MakeKnownForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose the kind and the verdict that the pair should get.")
        return _to_pair(request, access, pair)
    purpose = Pair.Purpose(form.cleaned_data["purpose"])
    try:
        make_known_pair(
            pair=pair,
            purpose=purpose,
            verdict=Verdict(form.cleaned_data["verdict"]),
            explanation=form.cleaned_data["explanation"],
            actor=access.user,
        )
        messages.success(request, f"Pair {pair.pk} is a {purpose.label.lower()} pair now, too.")
    except Refused as refusal:
        messages.error(request, str(refusal))
    return _to_pair(request, access, pair)


def _pair(access: StudyAccess, pair_id: int) -> Pair:
    pairs = Pair.objects.select_related("study", "prompt", "response_a", "response_b")
    return get_object_or_404(pairs, pk=pair_id, study=access.study)


def _act(
    request: HttpRequest, access: StudyAccess, pair: Pair, act: Callable[[], object], *, done: str
) -> HttpResponse:
    """Do it, and go on to the next pair of the queue that the lead is working through."""
    wanted = review_filter(request.POST.dict())
    following = next_to_review(access.study, wanted=wanted, after=pair.pk)
    try:
        act()
    except Refused as refusal:
        messages.error(request, str(refusal))
        return _to_pair(request, access, pair)
    messages.success(request, done)
    if following is None:
        return redirect(wanted.back or f"{reverse('review', args=[access.study.slug])}?{wanted.query}")
    return redirect(_address(access, following, wanted=wanted))


def _to_pair(request: HttpRequest, access: StudyAccess, pair: Pair) -> HttpResponse:
    return redirect(_address(access, pair.pk, wanted=review_filter(request.POST.dict())))


def _address(access: StudyAccess, pair_id: int, *, wanted: ReviewFilter) -> str:
    return f"{reverse('review-pair', args=[access.study.slug, pair_id])}?{wanted.query}"
