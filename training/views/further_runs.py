from collections.abc import Sequence
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotate.access import study_access
from annotate.models import Role
from training.core.errors import ConfigError
from training.forms.run import FurtherRunForm
from training.models import Round, Run
from training.selectors.estimates import run_estimate
from training.selectors.round_runs import overlaid_curves
from training.selectors.run_plans import PlannedRun, fault_of, new_plans, planned_runs
from training.selectors.run_suggestions import Suggestion, suggestions
from training.services.further_runs import plan_of_run, round_fault, start_further_runs
from training.services.recipes import settings_warnings
from training.services.rounds import RoundRefused
from training.views.evaluation import whole


@require_http_methods(["GET", "POST"])
def run_create(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Further runs on the labels of a round, from the settings of `?from=RUN` or of its newest run.

    The form begins with what `?try=KEY` suggests; without either it suggests what is new to try.
    """
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(Round, study=access.study, number=number)
    source = source_of(item, number=request.GET.get("from", ""))
    if source is None or (fault := unreadable(source)):
        messages.error(request, fault if source else f"Round {number} has no run yet; train on it first.")
        return redirect("round-detail", slug, number)
    refused = round_fault(item)
    if request.GET.get("preview"):
        form = FurtherRunForm(request.GET, source=source)
        context = {**preview_of(form, source), "refused": refused}
        return render(request, "training/_run_preview.html", context)
    if refused:
        messages.error(request, refused)
        return redirect("round-detail", slug, number)
    found = suggestions(source)
    tried = None if request.POST else tried_of(request, found=found)
    form = FurtherRunForm(request.POST or None, source=source, proposed=tried.values if tried else None)
    if request.method == "POST" and form.is_valid():
        try:
            planned = planned_runs(source, plans=form.plans())
            started = start_further_runs(source=source, plans=new_plans(planned), actor=access.user)
        except RoundRefused as refusal:
            form.add_error(None, str(refusal))
        else:
            messages.success(request, started_sentence(started, planned=planned))
            return redirect("round-detail", slug, number)
    context = {
        **access.context("overview"),
        **preview_of(form if form.is_bound else FurtherRunForm(initial_values(form), source=source), source),
        "form": form,  # as it was typed, or without a word about what is not typed yet
        "suggestions": found,
        "tried": tried,
        "round": item,
    }
    return render(request, "training/run_create.html", context, status=422 if form.errors else 200)


@require_GET
def round_curves(request: HttpRequest, slug: str, number: int) -> JsonResponse:
    """The curves of all runs of a round, thinned, for one picture."""
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    item = get_object_or_404(Round, study=access.study, number=number)
    runs = overlaid_curves(item)
    return JsonResponse({"runs": runs, "active": any(run["active"] for run in runs)})


def source_of(item: Round, *, number: str) -> Run | None:
    """Return the run named, 404 where there is none such, or the newest; None before the first."""
    runs = Run.objects.filter(round=item).select_related("round__study__recipe", "round__sampled_policy")
    if number:
        return get_object_or_404(runs, number=whole(number) or 0)
    return runs.order_by("-number").first()


def unreadable(source: Run) -> str:
    """Return why the settings of a run cannot be gone on from, or nothing."""
    try:
        plan_of_run(source)
    except ConfigError as error:
        return f"The config of run {source.number} cannot be read ({error}); duplicate another run."
    return ""


def initial_values(form: FurtherRunForm) -> dict[str, Any]:
    return {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}


def preview_of(form: FurtherRunForm, source: Run) -> dict[str, Any]:
    """Return what the runs would be, what they warn of and how long they take; nothing of a faulty form."""
    try:
        plans = form.plans() if form.is_valid() else []
    except ConfigError:
        plans = []
    if not plans:
        return {"planned": [], "new": [], "estimate": None, "warnings": [], "form": form, "source": source}
    planned = planned_runs(source, plans=plans)
    new = [one for one in planned if one.repeats is None]
    plans = new_plans(planned)
    recipe = source.round.study.recipe
    epochs = sum(plan.epochs for plan in plans) / len(plans)
    examples = int(source.receipt.get("usable", 0)) + int(source.receipt.get("edits", 0))
    estimate = run_estimate(recipe, examples=examples, epochs=epochs, round=source.round)
    return {
        "planned": planned,
        "new": new,
        "fault": fault_of(source, plans=plans),
        "estimate": estimate,
        "seconds": estimate.times(len(plans)),
        "examples": examples,
        "warnings": settings_warnings(
            [plan.loss for plan in plans],
            pairs_per_step=plans[0].pairs_per_step,
            learning_rate=max(plan.learning_rate for plan in plans),
        ),
        "form": form,
        "source": source,
    }


def tried_of(request: HttpRequest, *, found: Sequence[Suggestion]) -> Suggestion | None:
    """Return the suggestion asked for; the first of them at a first look; None to duplicate a run."""
    if "try" not in request.GET and "from" not in request.GET:
        return found[0]
    return next((one for one in found if one.key == request.GET.get("try")), None)


def started_sentence(started: list[Run], *, planned: Sequence[PlannedRun]) -> str:
    """Return what is queued, and which of what was asked for is left out since a run has been that."""
    if len(started) == 1:
        said = f"Run {started[0].number} is queued; it trains on the same labels."
    else:
        said = (
            f"Runs {started[0].number} to {started[-1].number} are queued; they train one after another on "
            "the same labels."
        )
    repeated = [f"run {one.repeats.number}" for one in planned if one.repeats is not None]
    return f"{said} Left out, since they are there already: {', '.join(repeated)}." if repeated else said
