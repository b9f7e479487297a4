"""Adding people to a study, changing their role, taking them out."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from annotate.access import study_access
from annotate.errors import MemberRefused
from annotate.forms import MemberAddForm, RoleForm
from annotate.models import Membership, Role
from annotate.services.members import invite_member
from annotate.services.studies import change_role, remove_member
from annotate.views.settings import settings_page


@require_POST
def member_add(request: HttpRequest, slug: str) -> HttpResponse:
    """Add an account, or make one; a new account's password is on the answer and nowhere else."""
    access = study_access(request, slug, Role.LEAD)
    form = MemberAddForm(request.POST)
    if not form.is_valid():
        return settings_page(request, access, member_form=form, status=400)
    try:
        invited = invite_member(
            study=access.study,
            username=form.cleaned_data["username"],
            display_name=form.cleaned_data["display_name"],
            role=Role(form.cleaned_data["role"]),
            actor=access.user,
        )
    except MemberRefused as refusal:
        form.add_error("username", str(refusal))
        return settings_page(request, access, member_form=form, status=409)
    if invited.password is not None:
        return settings_page(request, access, new_account=(invited.user.username, invited.password))
    messages.success(request, f"{invited.user.display_name} is in the study now.")
    return redirect("study-settings", slug)


@require_POST
def member_role(request: HttpRequest, slug: str, member_id: int) -> HttpResponse:
    """Give a member another role."""
    access = study_access(request, slug, Role.LEAD)
    membership = get_object_or_404(Membership, pk=member_id, study=access.study)
    form = RoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose one of the roles: lead, annotator, viewer.")
        return redirect("study-settings", slug)
    try:
        change_role(membership=membership, role=Role(form.cleaned_data["role"]), actor=access.user)
        messages.success(request, f"The role of {membership.user.display_name} is changed.")
    except MemberRefused as refusal:
        messages.error(request, str(refusal))
    return _back(request, slug, access_lost=membership.user_id == access.user.pk)


@require_POST
def member_remove(request: HttpRequest, slug: str, member_id: int) -> HttpResponse:
    """Take a member out; their labels stay."""
    access = study_access(request, slug, Role.LEAD)
    membership = get_object_or_404(Membership, pk=member_id, study=access.study)
    try:
        remove_member(membership=membership, actor=access.user)
        messages.success(
            request, f"{membership.user.display_name} is no longer in the study; their labels stay."
        )
    except MemberRefused as refusal:
        messages.error(request, str(refusal))
    return _back(request, slug, access_lost=membership.user_id == access.user.pk)


def _back(request: HttpRequest, slug: str, *, access_lost: bool) -> HttpResponse:
    """Somebody who has just changed their own role may not see the settings any more."""
    still_lead = Membership.objects.filter(user=request.user.pk, study__slug=slug, role=Role.LEAD).exists()
    return redirect("home") if access_lost and not still_lead else redirect("study-settings", slug)
