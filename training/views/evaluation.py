from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotate.access import study_access
from annotate.models import Role
from training.forms.evaluation import EvaluationPlanForm
from training.models import Policy
from training.selectors.asked_pairs import last_asked
from training.selectors.evaluation_page import evaluation_page
from training.services.asked_pairs import take_back
from training.services.evaluation_pairs import EvaluationRefused, ask_for_more, plan_of
from training.services.evaluation_plans import update_plan


@require_GET
def evaluation(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD, Role.VIEWER)
    page = evaluation_page(access.study, policy=whole(request.GET.get("policy", "")))
    may_act = access.role == Role.LEAD
    context = {
        **access.context("evaluation"),
        "page": page,
        "may_act": may_act,
        "asked": last_asked(access.study, actor=access.user) if may_act else None,
    }
    return render(request, "training/evaluation.html", context)


@require_http_methods(["GET", "POST"])
def evaluation_plan(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    form = EvaluationPlanForm.of(plan_of(access.study), data=request.POST)
    if request.method == "POST" and form.is_valid():
        update_plan(study=access.study, values=form.values(), actor=access.user)
        messages.success(request, "Saved. Every policy is judged by it from now on.")
        return redirect("evaluation", slug)
    status = 422 if form.errors else 200
    context = {**access.context("evaluation"), "form": form}
    return render(request, "training/evaluation_plan.html", context, status=status)


@require_POST
def evaluation_more(request: HttpRequest, slug: str, policy: int) -> HttpResponse:
    """Put more blind pairs of a policy into the labelling queue."""
    access = study_access(request, slug, Role.LEAD)
    item = get_object_or_404(
        Policy.objects.select_related("study", "parent"), study=access.study, number=policy
    )
    try:
        made = ask_for_more(policy=item, pairs=whole(request.POST.get("pairs", "")) or 0, actor=access.user)
    except EvaluationRefused as refusal:
        messages.error(request, str(refusal))
    else:
        pairs = "1 more pair" if made == 1 else f"{made} more pairs"
        messages.success(request, f"{pairs} of {item.label} wait in the labelling queue.")
    return redirect("evaluation", slug)


@require_POST
def evaluation_take_back(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the pairs back that this lead asked for last, as far as nobody has begun with them."""
    access = study_access(request, slug, Role.LEAD)
    taken = take_back(access.study, actor=access.user)
    if taken:
        pairs = "1 pair has" if taken == 1 else f"{taken} pairs have"
        messages.success(request, f"{pairs} left the labelling queue; asking for more puts them back first.")
    else:
        messages.info(request, "Nothing is left to take back: somebody has begun with every pair.")
    return redirect("evaluation", slug)


def whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 7 else None
