"""Trying a text on several policies, and sending two of the answers to the annotators."""

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Prompt, Role, Study
from training.forms.compare import whole
from training.forms.trial import TrialForm, recipe_values
from training.models import Trial
from training.selectors.compare import study_policies
from training.selectors.compare_query import chosen_columns
from training.selectors.engine import engine_overview
from training.selectors.trials import recent_trials, shown_trial
from training.services.trial_engine import start_trial
from training.services.trial_queue import queue_pair, queue_refusal
from training.services.trials import TrialRefused, create_trial, stop_trial
from training.views.polling import STOP_POLLING


@require_http_methods(["GET", "POST"])
def trial_create(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the box, or take a text and have it answered."""
    access = study_access(request, slug, Role.LEAD)
    policies = study_policies(access.study)
    if request.method == "GET":
        initial = initial_values(access.study, prompt=whole(request.GET.get("prompt", "")))
        chosen = [policy.number for policy in chosen_columns(policies, numbers=())]
        return page(
            request, access, form=TrialForm(policies=policies, initial={"policies": chosen, **initial})
        )
    form = TrialForm(request.POST, policies=policies)
    if not form.is_valid():
        return page(request, access, form=form, status=400)
    try:
        trial = create_trial(study=access.study, actor=access.user, new=form.new_trial())
    except TrialRefused as refusal:
        form.add_error(None, str(refusal))
        return page(request, access, form=form, status=400)
    start_trial(trial)
    return redirect("trial-detail", slug, trial.pk)


def initial_values(study: Study, *, prompt: int | None) -> dict[str, Any]:
    """Return what the box holds at first: the recipe's settings, and a prompt's text where one is named."""
    values = recipe_values(study.recipe)
    found = Prompt.objects.filter(study=study, pk=prompt).first() if prompt else None
    return values | (text_values(found.messages) if found else {})


def text_values(chat: list[dict[str, str]]) -> dict[str, str]:
    """Return the fields that hold a chat: a single message as text, others as JSON."""
    if len(chat) == 1:
        return {"text": chat[0]["content"], "format": "text"}
    return {"text": json.dumps(chat, ensure_ascii=False, indent=1), "format": "chat"}


@require_GET
def trial_detail(request: HttpRequest, slug: str, trial_id: int) -> HttpResponse:
    """Show a trial as far as it has come, with the box to try it again."""
    access, trial = trial_access(request, slug, trial_id)
    shown = shown_trial(trial)
    sampling = {name: trial.sampling[name] for name in ("temperature", "top_p", "max_tokens")}
    chosen = [answer.answer.policy.number for answer in shown.answers]
    initial = {**text_values(trial.messages), **sampling, "policies": chosen}
    form = TrialForm(policies=study_policies(access.study), initial=initial)
    return page(request, access, form=form, trial=trial)


@require_GET
def trial_live(request: HttpRequest, slug: str, trial_id: int) -> HttpResponse:
    """Return the answers as they are now; 286 ends the polling when nothing comes any more."""
    access, trial = trial_access(request, slug, trial_id)
    answers = answers_context(trial)
    context = {**access.context("compare"), **answers}
    status = 200 if answers["shown"].is_active else STOP_POLLING
    return render(request, "training/_trial_answers.html", context, status=status)


@require_POST
def trial_stop(request: HttpRequest, slug: str, trial_id: int) -> HttpResponse:
    """Stop the answers of a trial, or that of the policy named."""
    _, trial = trial_access(request, slug, trial_id)
    stop_trial(trial, policy=whole(request.POST.get("policy", "")))
    return redirect("trial-detail", slug, trial.pk)


@require_POST
def trial_queue(request: HttpRequest, slug: str, trial_id: int) -> HttpResponse:
    """Put two answers into the labelling queue."""
    access, trial = trial_access(request, slug, trial_id)
    picked = [number for text in request.POST.getlist("answer") if (number := whole(text)) is not None]
    answers = list(trial.answers.filter(policy__number__in=picked).select_related("policy", "response"))
    try:
        pair = queue_pair(trial=trial, answers=answers, actor=access.user)
    except TrialRefused as refusal:
        messages.error(request, str(refusal))
    else:
        messages.success(request, f"The pair is in the queue of round {pair.batch}, blind as any other.")
    return redirect("trial-detail", slug, trial.pk)


def trial_access(request: HttpRequest, slug: str, trial_id: int) -> tuple[StudyAccess, Trial]:
    access = study_access(request, slug, Role.LEAD)
    return access, get_object_or_404(Trial, pk=trial_id, study=access.study)


def page(
    request: HttpRequest,
    access: StudyAccess,
    *,
    form: TrialForm,
    trial: Trial | None = None,
    status: int = 200,
) -> HttpResponse:
    context = access.context("compare") | {
        "form": form,
        "view": "trial",
        "engine": engine_overview(),
        "recent": recent_trials(access.study),
    }
    if trial is not None:
        context |= answers_context(trial)
    return render(request, "training/trial.html", context, status=status)


def answers_context(trial: Trial) -> dict[str, Any]:
    shown = shown_trial(trial)
    # Asked for when it matters: looking for a held-out twin reads every held-out prompt.
    refusal = queue_refusal(trial) if len(shown.whole) > 1 and not shown.is_active else ""
    return {"trial": trial, "shown": shown, "refusal": refusal}
