from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from annotate.access import study_access
from annotate.models import Role
from training.recipe_form import RecipeForm, recipe_values
from training.services.recipes import recipe_warnings, update_recipe


@require_http_methods(["GET", "POST"])
def recipe_edit(request: HttpRequest, slug: str) -> HttpResponse:
    access = study_access(request, slug, Role.LEAD)
    recipe = access.study.recipe
    form = RecipeForm(request.POST or None, initial=recipe_values(recipe))
    if request.method == "POST" and form.is_valid():
        try:
            update_recipe(recipe=recipe, actor=access.user, **form.cleaned_data)
        except ValidationError as error:
            form.add_faults(error)
        else:
            messages.success(request, "The recipe is saved. Rounds and runs that start from now on use it.")
            return redirect("recipe-edit", slug)
    context = {**access.context("settings"), "form": form, "warnings": recipe_warnings(recipe)}
    return render(request, "training/recipe_edit.html", context, status=422 if form.errors else 200)
