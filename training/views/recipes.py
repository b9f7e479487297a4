from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import study_access
from annotate.models import Role
from training.forms.recipe import RecipeForm, recipe_values
from training.forms.recipe_said import faults_at_fields, field_of, said_at_fields
from training.models import Recipe
from training.selectors.recipe_page import (
    has_demo_settings,
    queue_shares,
    recipe_preview,
    sampling_notes,
    typed_recipe,
)
from training.services.recipes import update_recipe


@require_http_methods(["GET", "POST"])
def recipe_edit(request: HttpRequest, slug: str) -> HttpResponse:
    """The recipe's form; `?preview=1` answers with what the typed values come to."""
    access = study_access(request, slug, Role.LEAD)
    recipe = access.study.recipe
    if request.GET.get("preview"):
        return render(request, "training/_recipe_preview.html", preview_of(RecipeForm(request.GET), recipe))
    form = RecipeForm(request.POST or None, initial=recipe_values(recipe))
    if request.method == "POST" and form.is_valid():
        try:
            changes = changes_of(form, base_before=request.POST.get("base_before", ""))
            update_recipe(recipe=recipe, actor=access.user, **changes)
        except ValidationError as error:
            form.add_faults(error)
        else:
            messages.success(request, "The recipe is saved. Rounds and runs that start from now on use it.")
            return redirect("recipe-edit", slug)
    context = {
        **access.context("settings"),
        **shown_preview(form, recipe),
        "form": form,
        "has_demo_settings": has_demo_settings(recipe),
        "shares": queue_shares(access.study),
        "can_learn": not access.study.rounds.exists(),
    }
    return render(request, "training/recipe_edit.html", context, status=422 if form.errors else 200)


def changes_of(form: RecipeForm, *, base_before: str) -> dict[str, Any]:
    """Return what was typed; the base model only where it is not the one that the form came with.

    A run on demonstrations may have set another reference since, which an old form must not undo.
    """
    kept = {"base_model"} if form.cleaned_data["base_model"] == base_before.strip() else set()
    return {name: value for name, value in form.cleaned_data.items() if name not in kept}


def preview_of(form: RecipeForm, recipe: Recipe) -> dict[str, Any]:
    """Return what the typed values come to; of values out of range, what is wrong with them."""
    if not form.is_valid():
        return {"preview": None, "said": faults_at_fields(form), "is_update": True}
    shown = shown_preview(form, typed_recipe(recipe, values=form.cleaned_data))
    return {**shown, "is_update": True}


def shown_preview(form: RecipeForm, recipe: Recipe) -> dict[str, Any]:
    """Return what the recipe comes to, and what is said of it; nothing at fields that show errors already."""
    preview = recipe_preview(recipe)
    if form.errors:
        return {"preview": preview, "said": said_at_fields(form), "general": []}
    return {
        "preview": preview,
        "said": said_at_fields(form, warnings=preview.warnings, notes=sampling_notes(recipe)),
        "general": [warning for warning in preview.warnings if field_of(warning) is None],
    }
