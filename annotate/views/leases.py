"""Pairs that people hold, released or handed on by a lead; and the state of the study."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from annotate.access import StudyAccess, study_access
from annotate.errors import ReviewRefused
from annotate.models import Lease, Role, Study, User
from annotate.services.leases import Released, release_left
from annotate.services.review import reassign_lease, release_by_lead
from annotate.services.studies import set_study_state
from annotate.team_forms import ReassignForm, StudyStateForm

STATE_SENTENCES = {
    Study.State.ACTIVE: "The study is open: people get pairs again.",
    Study.State.PAUSED: "The study is paused: nobody gets new pairs; those on screens can be submitted.",
    Study.State.CLOSED: "The study is closed: labels are refused, links let nobody in. Nothing is deleted.",
}


@require_POST
def lease_release(request: HttpRequest, slug: str, lease_id: int) -> HttpResponse:
    """Give a held pair back to the queue."""
    access = study_access(request, slug, Role.LEAD)
    lease = _lease(access, lease_id)
    release_by_lead(lease=lease, actor=access.user)
    messages.success(request, f"Pair {lease.pair_id} is in the queue again.")
    return redirect("people", slug)


@require_POST
def leases_release_left(request: HttpRequest, slug: str) -> HttpResponse:
    """Give back all pairs that are held though nobody works on them."""
    access = study_access(request, slug, Role.LEAD)
    released = release_left(study=access.study, actor=access.user)
    if released.pairs:
        messages.success(request, released_sentence(released))
    else:
        messages.success(request, "Nothing was left to release: every held pair is being worked on.")
    return redirect("study-detail", slug)


def released_sentence(released: Released) -> str:
    names = ", ".join(f"{user.display_name} {pairs}" for user, pairs in released.by_holder)
    said = "1 pair is" if released.pairs == 1 else f"{released.pairs} pairs are"
    return (
        f"{said} in the queue again (held by: {names}). What is submitted late is taken while a slot is free."
    )


@require_POST
def lease_reassign(request: HttpRequest, slug: str, lease_id: int) -> HttpResponse:
    """Hand a held pair to another annotator."""
    access = study_access(request, slug, Role.LEAD)
    lease = _lease(access, lease_id)
    form = ReassignForm(request.POST)
    people = User.objects.filter(memberships__study=access.study)
    to = people.filter(pk=form.cleaned_data["to"]).first() if form.is_valid() else None
    if to is None:
        messages.error(request, "Choose who gets the pair.")
        return redirect("people", slug)
    try:
        reassign_lease(lease=lease, to=to, actor=access.user)
        messages.success(request, f"{to.display_name} gets pair {lease.pair_id} next.")
    except ReviewRefused as refusal:
        messages.error(request, str(refusal))
    return redirect("people", slug)


@require_POST
def study_state(request: HttpRequest, slug: str) -> HttpResponse:
    """Pause, close or reopen the study."""
    access = study_access(request, slug, Role.LEAD)
    form = StudyStateForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Choose one of the states: active, paused, closed.")
        return redirect("people", slug)
    state = Study.State(form.cleaned_data["state"])
    set_study_state(study=access.study, state=state, actor=access.user)
    messages.success(request, STATE_SENTENCES[state])
    return redirect("people", slug)


def _lease(access: StudyAccess, lease_id: int) -> Lease:
    leases = Lease.objects.select_related("pair__study", "annotator")
    return get_object_or_404(leases, pk=lease_id, pair__study=access.study)
