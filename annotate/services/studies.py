"""Studies, their members and settings. Each change leaves an audit entry."""

from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils.text import slugify

from annotate.errors import MemberRefused, StudyRefused
from annotate.models import Lease, Membership, Pair, Role, Study, User
from annotate.services.audit import record_audit
from annotate.services.cursors import rewind_cursors
from annotate.services.guidelines import keep_guidelines_version
from annotate.services.locks import lock_pairs, lock_queue
from annotate.services.queue import release_lease

RESERVED_SLUGS = frozenset({"new"})


@dataclass(frozen=True)
class StudySettings:
    """What a lead can set on the study's page."""

    name: str
    state: Study.State
    labels_per_pair: int
    lease_seconds: int
    allow_tie: bool
    allow_both_bad: bool
    ask_strength: bool = False
    allow_edit: bool = True
    practice_pairs: int = 3
    gold_share: float = 0.0
    repeat_share: float = 0.03


def create_study(*, name: str, lead: User, guidelines: str = "", labels_per_pair: int = 1) -> Study:
    """Create a study with its first lead; raises StudyRefused when the name is empty or taken."""
    name = _free_name(name)
    with transaction.atomic():
        study = Study.objects.create(
            name=name,
            slug=_free_slug(name),
            guidelines=guidelines,
            labels_per_pair=labels_per_pair,
            created_by=lead,
        )
        keep_guidelines_version(study=study, actor=lead)
        Membership.objects.create(user=lead, study=study, role=Role.LEAD)
        record_audit(study=study, actor=lead, action="study.created", details={"name": name})
    return study


def set_queue_notice(*, study: Study, text: str) -> None:
    """Set what the empty labelling screen says is going on."""
    Study.objects.filter(pk=study.pk).update(queue_notice=text[:300])
    study.queue_notice = text[:300]


def update_settings(*, study: Study, settings: StudySettings, actor: User) -> Study:
    """Change a study's settings; a new overlap also holds for the pairs that are still open.

    A pair that has more labels or leases than the new overlap keeps them.
    """
    name = _free_name(settings.name, study=study)
    with transaction.atomic():
        lock_queue(study.pk)
        before = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        changes = {
            "name": name,
            "state": settings.state.value,
            "labels_per_pair": settings.labels_per_pair,
            "lease_seconds": settings.lease_seconds,
            "allow_tie": settings.allow_tie,
            "allow_both_bad": settings.allow_both_bad,
            "ask_strength": settings.ask_strength,
            "allow_edit": settings.allow_edit,
            "practice_pairs": settings.practice_pairs,
            "gold_share": settings.gold_share,
            "repeat_share": settings.repeat_share,
        }
        changed = {field: value for field, value in changes.items() if getattr(before, field) != value}
        if not changed:
            return before
        Study.objects.filter(pk=study.pk).update(**changed)
        if "labels_per_pair" in changed:
            open_pairs = Pair.objects.filter(
                study=study,
                state=Pair.State.OPEN,
                purpose__in=[Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE],
                reserved_for__isnull=True,
            )
            lock_pairs(open_pairs)
            open_pairs.update(labels_wanted=Greatest(Value(settings.labels_per_pair), F("slots_taken")))
            rewind_cursors(study=study)
        record_audit(study=study, actor=actor, action="study.changed", details=changed)
    return Study.objects.get(pk=study.pk)


def set_study_state(*, study: Study, state: Study.State, actor: User) -> bool:
    """Pause, close or reopen a study; False when it was so already.

    Paused: nobody gets new pairs, labels of pairs on screens are taken. Closed: labels are refused too, and
    no link lets anybody in. Reopening undoes either; nothing is lost.
    """
    with transaction.atomic():
        if not Study.objects.filter(pk=study.pk).exclude(state=state).update(state=state):
            return False
        record_audit(study=study, actor=actor, action="study.state_changed", details={"state": state.value})
    return True


def add_member(*, study: Study, user: User, role: Role, actor: User | None) -> Membership:
    """Add an account to a study; raises MemberRefused when it is in already."""
    try:
        with transaction.atomic():
            membership = Membership.objects.create(study=study, user=user, role=role)
            details = {"user": user.username, "role": role.value}
            record_audit(study=study, actor=actor, action="member.added", details=details)
    except IntegrityError:
        raise MemberRefused(
            f"{user.display_name} is a member already; change the role in the list."
        ) from None
    return membership


def change_role(*, membership: Membership, role: Role, actor: User) -> None:
    """Give a member another role; the last lead stays lead."""
    with transaction.atomic():
        members = _lock_members(membership.study_id)
        before = members.get(membership.pk)
        if before is None or before.role == role:
            return
        _check_lead_remains(before, members=members)
        Membership.objects.filter(pk=membership.pk).update(role=role)
        details = {"user": before.user.username, "from": before.role, "to": role.value}
        record_audit(study=membership.study, actor=actor, action="member.role_changed", details=details)


def remove_member(*, membership: Membership, actor: User) -> None:
    """Take a member out of a study; their labels stay, the pairs they hold go back to the queue."""
    with transaction.atomic():
        members = _lock_members(membership.study_id)
        before = members.get(membership.pk)
        if before is None:
            return
        _check_lead_remains(before, members=members)
        Membership.objects.filter(pk=membership.pk).delete()
        held = Lease.objects.filter(annotator=before.user, pair__study_id=membership.study_id).select_related(
            "pair"
        )
        for lease in held.order_by("pair_id"):
            release_lease(pair=lease.pair, annotator=before.user)
        details = {"user": before.user.username, "role": before.role}
        record_audit(study=membership.study, actor=actor, action="member.removed", details=details)


def _lock_members(study_id: int) -> dict[int, Membership]:
    members = Membership.objects.select_related("user").filter(study_id=study_id).order_by("pk")
    return {member.pk: member for member in members.select_for_update(no_key=True, of=("self",))}


def _check_lead_remains(leaving: Membership, *, members: dict[int, Membership]) -> None:
    others = [member for member in members.values() if member.role == Role.LEAD and member.pk != leaving.pk]
    if leaving.role == Role.LEAD and not others:
        raise MemberRefused(f"{leaving.user.display_name} is the only lead; make somebody else lead first.")


def _free_name(name: str, *, study: Study | None = None) -> str:
    name = " ".join(name.split())
    if not name:
        raise StudyRefused("A study needs a name.")
    same = Study.objects.filter(name__iexact=name)
    if study is not None:
        same = same.exclude(pk=study.pk)
    if same.exists():
        raise StudyRefused(f"A study called “{name}” exists already; choose another name.")
    return name


def _free_slug(name: str) -> str:
    base = slugify(name)[:50] or "study"
    taken = set(Study.objects.filter(slug__startswith=base).values_list("slug", flat=True)) | RESERVED_SLUGS
    number = 1
    slug = base
    while slug in taken:
        number += 1
        slug = f"{base}-{number}"
    return slug
