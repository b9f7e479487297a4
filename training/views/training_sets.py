from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from annotate.access import StudyAccess, study_access
from annotate.models import Role
from training.forms.rules import RulesForm, form_values
from training.models import Round
from training.selectors.readiness import state_refusal
from training.selectors.training_set import assemble, rules_of
from training.selectors.training_set_page import people_of, training_set_page
from training.services.rounds import RoundRefused, start_training
from training.services.training_rules import save_rules
from training.training_set.rules import Rules


@require_GET
def training_set(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """What a round's labels come to under the rules in the query, or under the study's."""
    access = study_access(request, slug, Role.LEAD)
    item = round_of(access, number=number)
    form = rules_form(item, data=request.GET)
    context = {**access.context("overview"), "round": item, "form": form, **preview_of(item, form, request)}
    is_part = request.headers.get("HX-Request") == "true"
    template = "training/_training_set_preview.html" if is_part else "training/training_set.html"
    return render(request, template, context, status=422 if form.errors and not is_part else 200)


@require_POST
def training_set_save(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Make the posted rules those of the study."""
    access = study_access(request, slug, Role.LEAD)
    item = round_of(access, number=number)
    form = rules_form(item, data=request.POST)
    if form.errors:
        messages.error(request, f"Nothing was saved. {first_error(form)}")
    else:
        save_rules(recipe=item.study.recipe, rules=form.rules(), actor=access.user)
        messages.success(request, "Saved: every training set from now on follows these rules.")
    return redirect(with_rules(slug, number, form))


@require_POST
def training_set_train(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Train on the round by the posted rules, whatever the study's are."""
    access = study_access(request, slug, Role.LEAD)
    item = round_of(access, number=number)
    form = rules_form(item, data=request.POST)
    try:
        if form.errors:
            raise RoundRefused(f"Nothing was started. {first_error(form)}")
        start_training(round=item, actor=access.user, rules=form.rules())
    except RoundRefused as refusal:
        messages.error(request, str(refusal))
        return redirect(with_rules(slug, number, form))
    messages.success(request, f"Round {number} trains. Its labels are frozen; the run keeps its own copy.")
    return redirect("round-detail", slug, number)


def round_of(access: StudyAccess, *, number: int) -> Round:
    rounds = Round.objects.select_related("study__recipe", "sampled_policy")
    return get_object_or_404(rounds, study=access.study, number=number)


def rules_form(item: Round, *, data: QueryDict) -> RulesForm:
    """Return the form, checked: as it was sent, or with the study's rules where none were."""
    recipe = item.study.recipe
    rules = rules_of(recipe)
    people = people_of(item.study, also=rules.annotators_left_out)
    form = RulesForm(data if "ties" in data else form_values(rules), people=people)
    if form.is_valid():
        form.add_faults(loss=recipe.loss)
    return form


def preview_of(item: Round, form: RulesForm, request: HttpRequest) -> dict[str, Any]:
    if form.errors:
        return {"preview": None}
    rules, recipe = form.rules(), item.study.recipe
    assembled = assemble(round=item, rules=rules, loss=recipe.loss)
    return {
        "preview": training_set_page(
            assembled, show=request.GET.get("show", ""), page=request.GET.get("page", "")
        ),
        "receipt": assembled.receipt,
        "is_saved": rules == rules_of(recipe),
        "is_usual": rules == Rules(),
        "usual": with_values(item.study.slug, item.number, form_values(Rules())),
        "loss": recipe.get_loss_display(),
        "needed": recipe.minimum_labels,
        "from_round": assembled.receipt.usable_per_round.get(item.number, 0),
        "refusal": state_refusal(item),
        "sent": [(name, value) for name, values in sent_values(form).items() for value in values],
        "query": query_of(form),
    }


def sent_values(form: RulesForm) -> dict[str, list[str]]:
    """Return a valid form's rules as hidden fields repeat them."""
    values = form_values(form.rules())
    return {name: value if isinstance(value, list) else [value] for name, value in values.items()}


def query_of(form: RulesForm) -> str:
    query = QueryDict(mutable=True)
    for name, values in sent_values(form).items():
        query.setlist(name, values)
    return query.urlencode()


def with_rules(slug: str, number: int, form: RulesForm) -> str:
    return with_values(slug, number, {} if form.errors else form_values(form.rules()))


def with_values(slug: str, number: int, values: dict[str, Any]) -> str:
    query = QueryDict(mutable=True)
    for name, value in values.items():
        query.setlist(name, value if isinstance(value, list) else [value])
    url = reverse("training-set", args=[slug, number])
    return f"{url}?{query.urlencode()}" if values else url


def first_error(form: RulesForm) -> str:
    return str(next(iter(form.errors.values()))[0])
