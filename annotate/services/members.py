"""Bringing a person into a study by name, pausing them, and leaving their labels out of training sets."""

from dataclasses import dataclass

from django.db import transaction

from annotate.models import Lease, Membership, Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.audit import record_audit
from annotate.services.queue import release_lease
from annotate.services.studies import add_member


@dataclass(frozen=True)
class Invited:
    """Who came in; `password` is set when the account was made just now."""

    user: User
    password: str | None


def invite_member(
    *, study: Study, username: str, display_name: str, role: Role, actor: User | None
) -> Invited:
    """Add the account with this username, or make one; raises MemberRefused with a sentence."""
    username = username.strip()
    with transaction.atomic():
        user = User.objects.filter(username__iexact=username).first()
        password = None
        if user is None:
            user, password = create_user(username=username, display_name=display_name)
        add_member(study=study, user=user, role=role, actor=actor)
    return Invited(user=user, password=password)


def pause_member(*, membership: Membership, actor: User) -> int:
    """Give somebody no more pairs until they are resumed; the pairs they hold go back. Returns how many."""
    with transaction.atomic():
        changed = Membership.objects.filter(pk=membership.pk, is_paused=False).update(is_paused=True)
        if not changed:
            return 0
        held = Lease.objects.select_related("pair").filter(
            annotator=membership.user_id, pair__study=membership.study_id
        )
        leases = list(held.order_by("pair_id"))
        for lease in leases:
            release_lease(pair=lease.pair, annotator=membership.user)
        _audit(membership, actor=actor, action="paused")
    return len(leases)


def resume_member(*, membership: Membership, actor: User) -> None:
    """Let a paused member go on."""
    with transaction.atomic():
        if Membership.objects.filter(pk=membership.pk, is_paused=True).update(is_paused=False):
            _audit(membership, actor=actor, action="resumed")


def set_in_training_sets(*, membership: Membership, used: bool, actor: User) -> None:
    """Use somebody's labels for training, or leave them out; the labels themselves stay as they are."""
    with transaction.atomic():
        changed = Membership.objects.filter(pk=membership.pk, in_training_sets=not used)
        if changed.update(in_training_sets=used):
            _audit(membership, actor=actor, action="used_again" if used else "left_out")


def _audit(membership: Membership, *, actor: User, action: str) -> None:
    details = {"user": membership.user.username}
    record_audit(study=membership.study, actor=actor, action=f"member.{action}", details=details)
