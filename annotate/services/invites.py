"""Invite links: whoever holds one may join a study, while it lasts.

The link's secret has 32 random bytes and is shown once; only its sha256 is kept. Uses are counted by a
compare-and-swap in the database, so that a link for one person never lets two in.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.contrib.auth.password_validation import validate_password
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from annotate.errors import InviteRefused
from annotate.models import Invite, Membership, Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.audit import record_audit
from annotate.services.studies import add_member

SECRET_BYTES = 32
LONGEST_DAYS = 90
# A lead is brought in by name, never by whoever holds a link.
INVITED_ROLES = (Role.ANNOTATOR, Role.VIEWER)


@dataclass(frozen=True)
class NewInvite:
    """An invite with its secret, which is kept nowhere else."""

    invite: Invite
    token: str


@dataclass(frozen=True)
class NewAccount:
    """What somebody without an account chooses on the way in."""

    username: str
    display_name: str
    password: str


def create_invite(
    *, study: Study, role: Role, days: int, max_uses: int | None, note: str, actor: User
) -> NewInvite:
    """Make a link that lasts `days` days and lets in `max_uses` people; None: any number.

    Raises InviteRefused for a lead's role or numbers out of range.
    """
    if role not in INVITED_ROLES:
        raise InviteRefused("A link cannot make somebody a lead; add leads by their username.")
    if not 1 <= days <= LONGEST_DAYS:
        raise InviteRefused(f"days = {days} must be between 1 and {LONGEST_DAYS}; 7 is usual.")
    if max_uses is not None and max_uses < 1:
        raise InviteRefused(f"uses = {max_uses} must be at least 1, or empty for any number.")
    token = secrets.token_urlsafe(SECRET_BYTES)
    with transaction.atomic():
        invite = Invite.objects.create(
            study=study,
            token_hash=hash_of(token),
            role=role,
            note=note.strip()[:120],
            max_uses=max_uses,
            expires_at=timezone.now() + timedelta(days=days),
            created_by=actor,
        )
        _audit(invite, actor=actor, action="created")
    return NewInvite(invite=invite, token=token)


def revoke_invite(*, invite: Invite, actor: User) -> None:
    """Close a link for good; who came in by it stays in."""
    with transaction.atomic():
        if Invite.objects.filter(pk=invite.pk, revoked_at=None).update(revoked_at=timezone.now()):
            _audit(invite, actor=actor, action="revoked")


def find_invite(token: str) -> Invite | None:
    """Return the invite of a link's secret; None when there is none."""
    return Invite.objects.select_related("study").filter(token_hash=hash_of(token)).first()


def closed_because(invite: Invite, *, now: datetime | None = None) -> str:
    """Return why a link lets nobody in any more, as a sentence; "" while it does."""
    if invite.revoked_at is not None:
        return "This link was withdrawn. Ask the person who sent it for a new one."
    if invite.expires_at <= (now or timezone.now()):
        return "This link has expired. Ask the person who sent it for a new one."
    if invite.max_uses is not None and invite.uses >= invite.max_uses:
        return "This link has been used as often as it could be. Ask the person who sent it for another one."
    if invite.study.state == Study.State.CLOSED:
        return "This study is closed; nobody joins it any more."
    return ""


def join_study(*, token: str, user: User) -> Membership:
    """Bring an account into the study of a link; a member already stays what they are and uses nothing up.

    Raises InviteRefused with a sentence when the link lets nobody in.
    """
    with transaction.atomic():
        invite = _invite(token)
        member = Membership.objects.filter(study=invite.study, user=user).first()
        if member is not None:
            return member
        _use(invite)
        membership = add_member(
            study=invite.study, user=user, role=Role(invite.role), actor=invite.created_by
        )
        _audit(invite, actor=user, action="used")
        return membership


def join_with_new_account(*, token: str, account: NewAccount) -> User:
    """Make an account and bring it into the study of a link: both or neither.

    Raises InviteRefused for the link, MemberRefused for the username, ValidationError for the password.
    """
    with transaction.atomic():
        _invite(token)
        user, _ = create_user(username=account.username, display_name=account.display_name)
        validate_password(account.password, user)
        user.set_password(account.password)
        user.save(update_fields=["password"])
        join_study(token=token, user=user)
    return user


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _invite(token: str) -> Invite:
    invite = find_invite(token)
    if invite is None:
        raise InviteRefused("This link is not known here. Check that it was copied whole.")
    if reason := closed_because(invite):
        raise InviteRefused(reason)
    return invite


def _use(invite: Invite) -> None:
    """Count a use, unless the link was used up, revoked or ran out while we looked."""
    usable = Invite.objects.filter(Q(max_uses=None) | Q(uses__lt=F("max_uses")), pk=invite.pk)
    usable = usable.filter(revoked_at=None, expires_at__gt=timezone.now())
    if usable.update(uses=F("uses") + 1) != 1:
        fresh = Invite.objects.select_related("study").get(pk=invite.pk)
        raise InviteRefused(closed_because(fresh) or "This link lets nobody in any more.")


def _audit(invite: Invite, *, actor: User | None, action: str) -> None:
    details = {"invite": invite.pk, "role": invite.role, "note": invite.note}
    record_audit(study=invite.study, actor=actor, action=f"invite.{action}", details=details)
