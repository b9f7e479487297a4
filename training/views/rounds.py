from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.models import Policy, Round
from training.selectors.estimates import Estimate, run_estimate
from training.selectors.round_page import RoundPage, round_page
from training.selectors.round_runs import round_runs
from training.services.round_endings import choose_policy, close_round
from training.services.rounds import ChoiceNeeded, GateFailed, RoundRefused, open_round, start_training
from training.views.evaluation import whole
from training.views.polling import live_response

LONGEST_REASON = 2000


@require_POST
def round_open(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    number = whole(request.POST.get("policy", ""))
    policy = None if number is None else get_object_or_404(Policy, study=access.study, number=number)
    override = request.POST.get("reason", "")[:LONGEST_REASON]
    try:
        opened = open_round(study=access.study, actor=access.user, policy=policy, override=override)
    except GateFailed as failed:
        # The page that follows lists what fails, above the field for the reason.
        name = failed.policy.label
        messages.error(request, f"{name} fails its gate. To go on from it all the same, write below why.")
        return redirect("policy-detail", slug, failed.policy.number)
    except ChoiceNeeded as needed:
        messages.error(request, str(needed))
        return redirect("round-detail", slug, needed.round.number)
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("study-detail", slug)
    messages.success(
        request, f"Round {opened.number} is open; its first pairs can be labelled as soon as they come."
    )
    return redirect("study-detail", slug)


@require_POST
def round_train(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(Round, study=access.study, number=number)
    try:
        start_training(round=item, actor=access.user)
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(
            request, f"Round {number} trains. Its labels are frozen; the run keeps its own copy."
        )
    return redirect("round-detail", slug, number)


@require_POST
def round_close(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(Round, study=access.study, number=number)
    named = whole(request.POST.get("policy", ""))
    policy = None if named is None else get_object_or_404(Policy, study=access.study, number=named)
    try:
        with transaction.atomic():
            close_round(round=item, actor=access.user)
            if policy is not None and policy.pk != item.sampled_policy_id:
                choose_policy(round=item, policy=policy, actor=access.user)
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
        return redirect("round-detail", slug, number)
    samples = f" and samples {policy.label}" if policy else ""
    opens = f"round {number + 1} can be opened when you like{samples}"
    messages.success(request, f"Round {number} is closed. Its labels stay; {opens}.")
    return redirect("study-detail", slug)


@require_POST
def policy_choose(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(Round, study=access.study, number=number)
    chosen = whole(request.POST.get("policy", ""))
    if chosen is None:
        raise Http404("No policy has been named.")
    policy = get_object_or_404(Policy, study=access.study, number=chosen)
    try:
        choose_policy(round=item, policy=policy, actor=access.user)
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"Round {number + 1} will sample {policy.label}, once you open it.")
    return redirect("round-detail", slug, number)


@require_GET
def round_detail(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    return render(request, "training/round_detail.html", round_context(access, number=number))


@require_GET
def round_live(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """The parts of the round page that change, for polling."""
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    context = round_context(access, number=number)
    response = live_response(request, "training/_round_live.html", context=context)
    shown_run = request.GET.get("run", "")
    if f"?run={shown_run}" != context["page"].live_query:
        response["HX-Refresh"] = "true"  # a run began elsewhere: its curves need their own part of the page
    return response


def round_context(access: StudyAccess, *, number: int) -> dict[str, Any]:
    item = get_object_or_404(Round, study=access.study, number=number)
    page = round_page(access.study, number=item.number)
    return {
        **access.context("overview"),
        "page": page,
        "runs": round_runs(page.row, evaluation=page.evaluation, is_newest=page.is_newest),
        "estimate": estimate_of(page),
        "may_act": access.role == Role.LEAD,
        "poll_seconds": page.poll_seconds,
    }


def estimate_of(page: RoundPage) -> Estimate | None:
    """Return what a run with today's recipe would take, while the round can still be trained."""
    if page.preview is None:
        return None
    recipe = page.recipe
    return run_estimate(recipe, examples=page.preview.usable, epochs=recipe.epochs, round=page.round)
