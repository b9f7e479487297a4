"""Invite links: made and revoked by leads, used by whoever holds one."""

from axes.handlers.proxy import AxesProxyHandler
from django.contrib import messages
from django.contrib.auth import login as sign_in
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from annotate.access import study_access
from annotate.errors import InviteRefused, MemberRefused
from annotate.models import Invite, Membership, Role, User
from annotate.services.invites import (
    NewAccount,
    closed_because,
    create_invite,
    find_invite,
    join_study,
    join_with_new_account,
    revoke_invite,
)
from annotate.team_forms import InviteForm, JoinForm
from annotate.views.people import people_page

# The name under which tries at links count, as those at passwords do: per address, in the database.
THROTTLED_AS = {"username": "(invite link)"}
UNKNOWN = "This link is not known here. Check that it was copied whole."


@require_POST
def invite_create(request: HttpRequest, slug: str) -> HttpResponse:
    """Make a link; it is on the answer and nowhere else."""
    access = study_access(request, slug, Role.LEAD)
    form = InviteForm(request.POST, auto_id="invite_%s")
    if not form.is_valid():
        return people_page(request, access, invite_form=form, status=400)
    try:
        new = create_invite(
            study=access.study,
            role=Role(form.cleaned_data["role"]),
            days=form.cleaned_data["days"],
            max_uses=form.cleaned_data["max_uses"],
            note=form.cleaned_data["note"],
            actor=access.user,
        )
    except InviteRefused as refusal:
        form.add_error(None, str(refusal))
        return people_page(request, access, invite_form=form, status=409)
    link = request.build_absolute_uri(reverse("join", args=[new.token]))
    return people_page(request, access, new_link=link)


@require_POST
def invite_revoke(request: HttpRequest, slug: str, invite_id: int) -> HttpResponse:
    """Close a link for good."""
    access = study_access(request, slug, Role.LEAD)
    invite = get_object_or_404(Invite, pk=invite_id, study=access.study)
    revoke_invite(invite=invite, actor=access.user)
    messages.success(request, "The link lets nobody in any more. Who came in by it stays.")
    return redirect("people", slug)


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def join(request: HttpRequest, token: str) -> HttpResponse:
    """Say what a link leads to; a POST joins, with the account at hand or a new one."""
    if request.method == "POST" and not AxesProxyHandler.is_allowed(request, THROTTLED_AS):
        return _uncached(render(request, "annotate/login_locked.html", status=429))
    invite = find_invite(token)
    reason = closed_because(invite) if invite else UNKNOWN
    user = request.user if isinstance(request.user, User) else None
    if invite is not None and user is not None:
        member = Membership.objects.filter(study=invite.study, user=user).first()
        if member is not None:
            return _land(member)
    if invite is None or reason:
        if request.method == "POST":
            _count_try(request)
        return _page(request, invite=None, reason=reason, status=404 if invite is None else 410)
    if request.method != "POST":
        return _page(request, invite=invite, form=JoinForm())
    if user is not None:
        return _join(request, invite=invite, token=token, user=user)
    return _join_new(request, invite=invite, token=token)


def _join(request: HttpRequest, *, invite: Invite, token: str, user: User) -> HttpResponse:
    try:
        return _land(join_study(token=token, user=user))
    except InviteRefused as refusal:
        return _page(request, invite=None, reason=str(refusal), status=410)


def _join_new(request: HttpRequest, *, invite: Invite, token: str) -> HttpResponse:
    form = JoinForm(request.POST)
    if not form.is_valid():
        return _page(request, invite=invite, form=form, status=400)
    try:
        user = join_with_new_account(token=token, account=NewAccount(**form.cleaned_data))
    except InviteRefused as refusal:
        return _page(request, invite=None, reason=str(refusal), status=410)
    except MemberRefused as refusal:
        _count_try(request)
        form.add_error("username", str(refusal))
        return _page(request, invite=invite, form=form, status=409)
    except ValidationError as error:
        form.add_error("password", error)
        return _page(request, invite=invite, form=form, status=400)
    sign_in(request, user, backend="annotate.signed_in.AccountBackend")
    return _land(Membership.objects.get(study=invite.study, user=user))


def _land(member: Membership) -> HttpResponse:
    """Annotators land on their first pair, viewers on the study."""
    slug = member.study.slug
    return redirect("study-detail" if member.role == Role.VIEWER else "label", slug)


def _page(
    request: HttpRequest,
    *,
    invite: Invite | None,
    form: JoinForm | None = None,
    reason: str = "",
    status: int = 200,
) -> HttpResponse:
    context = {"invite": invite, "form": form, "reason": reason}
    return _uncached(render(request, "annotate/join.html", context, status=status))


def _count_try(request: HttpRequest) -> None:
    """Let a wrong link or a taken name count like a wrong password."""
    user_login_failed.send(sender=__name__, credentials=THROTTLED_AS, request=request)


def _uncached(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response
