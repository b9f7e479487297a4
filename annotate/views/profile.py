"""What people set for themselves."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.forms import PasswordChangeForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import study_access
from annotate.forms import ProfileForm, ThemeForm
from annotate.key_map import ACTIONS, keys_of
from annotate.models import User
from annotate.services.profiles import (
    dismiss_hints,
    mark_guidelines_read,
    reset_keys,
    set_keys,
    set_theme,
    update_profile,
)
from annotate.views.people import signed_in


@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    """Show the profile; a POST changes name and theme."""
    user = signed_in(request)
    if request.method != "POST":
        return _page(request, user)
    form = ProfileForm(request.POST)
    if not form.is_valid():
        return _page(request, user, form=form, status=400)
    theme = User.Theme(form.cleaned_data["theme"])
    update_profile(user=user, display_name=form.cleaned_data["display_name"], theme=theme)
    messages.success(request, "Your profile is saved.")
    return redirect("profile")


@require_POST
def profile_keys(request: HttpRequest) -> HttpResponse:
    """Set all keys of the labelling screen, or with `reset` go back to the usual ones."""
    user = signed_in(request)
    if "reset" in request.POST:
        reset_keys(user=user)
        messages.success(request, "The usual keys are back.")
        return redirect("profile")
    chosen = {action: request.POST.get(action, "").strip() for action in ACTIONS}
    problems = set_keys(user=user, chosen={action: key for action, key in chosen.items() if key})
    if problems:
        return _page(request, user, chosen=chosen, problems=problems, status=400)
    messages.success(request, "Your keys are saved.")
    return redirect("profile")


@sensitive_post_parameters()
@require_POST
def profile_password(request: HttpRequest) -> HttpResponse:
    """Change the password; other sessions of the account end."""
    user = signed_in(request)
    form = PasswordChangeForm(user, request.POST)
    if not form.is_valid():
        return _page(request, user, password_form=form, status=400)
    form.save()
    update_session_auth_hash(request, form.user)
    messages.success(request, "Your password is changed. Elsewhere you are signed out.")
    return redirect("profile")


@require_POST
def profile_theme(request: HttpRequest) -> HttpResponse:
    """Set the theme alone."""
    form = ThemeForm(request.POST)
    if not form.is_valid():
        return HttpResponse("The theme is system, light or dark.", status=400, content_type="text/plain")
    set_theme(user=signed_in(request), theme=User.Theme(form.cleaned_data["theme"]))
    return HttpResponse(status=204)


@require_POST
def hints_dismiss(request: HttpRequest) -> HttpResponse:
    """Put the hints over the first pair away for good."""
    dismiss_hints(user=signed_in(request))
    return HttpResponse(status=204)


@require_POST
def guidelines_seen(request: HttpRequest, slug: str) -> HttpResponse:
    """Remember that this person has the present version of the guidelines open."""
    access = study_access(request, slug)
    mark_guidelines_read(user=access.user, study=access.study)
    return HttpResponse(status=204)


def _page(
    request: HttpRequest,
    user: User,
    *,
    form: ProfileForm | None = None,
    chosen: dict[str, str] | None = None,
    problems: dict[str, str] | None = None,
    password_form: PasswordChangeForm | None = None,
    status: int = 200,
) -> HttpResponse:
    keys = keys_of(chosen if chosen is not None else user.keys)
    password_form = password_form or PasswordChangeForm(user)
    password_form.fields["old_password"].widget.attrs.pop("autofocus", None)
    context = {
        "form": form or ProfileForm(initial={"display_name": user.get_full_name(), "theme": user.theme}),
        "key_rows": [
            {
                "action": action,
                "name": name,
                "usual": usual,
                "key": keys[action],
                "problem": (problems or {}).get(action, ""),
            }
            for action, (usual, name) in ACTIONS.items()
        ],
        "password_form": password_form,
    }
    return render(request, "annotate/profile.html", context, status=status)
