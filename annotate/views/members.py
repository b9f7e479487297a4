"""Adding people to a study, changing their role, pausing them, leaving them out, taking them out."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from annotate.access import study_access
from annotate.errors import MemberRefused
from annotate.forms import MemberAddForm, RoleForm
from annotate.models import Membership, Role
from annotate.services.members import invite_member, pause_member, resume_member, set_in_training_sets
from annotate.services.studies import change_role, remove_member
from annotate.team_forms import SwitchForm
from annotate.views.people import people_page


@require_POST
def member_add(request: HttpRequest, slug: str) -> HttpResponse:
    """Add an account, or make one; a new account's password is on the answer and nowhere else."""
    access = study_access(request, slug, Role.LEAD)
    form = MemberAddForm(request.POST)
    if not form.is_valid():
        return people_page(request, access, member_form=form, status=400)
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
        return people_page(request, access, member_form=form, status=409)
    if invited.password is not None:
        return people_page(request, access, new_account=(invited.user.username, invited.password))
    messages.success(request, f"{invited.user.display_name} is in the study now.")
    return redirect("people", slug)


@require_POST
def member_role(request: HttpRequest, slug: str, member_id: int) -> HttpResponse:
    """Give a member another role."""
    access = study_access(request, slug, Role.LEAD)
    membership = get_object_or_404(Membership, pk=member_id, study=access.study)
    form = RoleForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose one of the roles: lead, annotator, viewer.")
        return redirect("people", slug)
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


@require_POST
def member_pause(request: HttpRequest, slug: str, member_id: int) -> HttpResponse:
    """Pause an annotator, or let them go on."""
    access = study_access(request, slug, Role.LEAD)
    membership = get_object_or_404(Membership, pk=member_id, study=access.study)
    form = SwitchForm(request.POST)
    name = membership.user.display_name
    if not form.is_valid():
        messages.error(request, "Reload the page and try again.")
    elif form.cleaned_data["on"]:
        released = pause_member(membership=membership, actor=access.user)
        went_back = f"; {released} held pairs went back to the queue" if released else ""
        messages.success(request, f"{name} is paused and gets no pairs{went_back}.")
    else:
        resume_member(membership=membership, actor=access.user)
        messages.success(request, f"{name} gets pairs again.")
    return redirect("people", slug)


@require_POST
def member_training(request: HttpRequest, slug: str, member_id: int) -> HttpResponse:
    """Leave somebody's labels out of training sets, or use them again."""
    access = study_access(request, slug, Role.LEAD)
    membership = get_object_or_404(Membership, pk=member_id, study=access.study)
    form = SwitchForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Reload the page and try again.")
        return redirect("people", slug)
    used = form.cleaned_data["on"]
    set_in_training_sets(membership=membership, used=used, actor=access.user)
    name = membership.user.display_name
    messages.success(
        request,
        f"Labels by {name} are used for training again."
        if used
        else f"Labels by {name} stay, but no training set uses them from now on.",
    )
    return redirect("people", slug)


def _back(request: HttpRequest, slug: str, *, access_lost: bool) -> HttpResponse:
    """Somebody who has just changed their own role may not see the page any more."""
    still_lead = Membership.objects.filter(user=request.user.pk, study__slug=slug, role=Role.LEAD).exists()
    return redirect("home") if access_lost and not still_lead else redirect("people", slug)
