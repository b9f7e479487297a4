"""Who settled which policy the round after a round samples, how, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q

from annotate.models import AuditEntry
from training.models import Policy, Round

CHOSEN, OPENED, CLOSED = "policy.chosen", "round.opened", "round.closed"


@dataclass(frozen=True)
class Choice:
    """`how` is "chosen" on the round's page, "opened" with the next round, or "closed" without a policy."""

    policy: Policy
    how: str
    who: str
    at: datetime


def choice_of(item: Round) -> Choice | None:
    """Return what settled the round's chosen policy, None while nothing has: one query.

    Opening the next round on what was chosen before it settles nothing new.
    """
    if item.chosen_policy is None:
        return None
    entries = AuditEntry.objects.filter(
        Q(action__in=(CHOSEN, CLOSED), details__round=item.number)
        | Q(action=OPENED, details__round=item.number + 1),
        study=item.study_id,
    )
    found: AuditEntry | None = None
    for entry in entries.select_related("actor").order_by("pk"):
        if found is None or entry.action != OPENED or settled_by(found, item=item) != entry.details["policy"]:
            found = entry
    if found is None:
        return None
    who = found.actor.display_name if found.actor else "the command line"
    return Choice(item.chosen_policy, how=found.action.partition(".")[2], who=who, at=found.created_at)


def settled_by(entry: AuditEntry, *, item: Round) -> int:
    """Return the number of the policy that the entry settled; closing a round settles what it sampled."""
    return item.sampled_policy.number if entry.action == CLOSED else int(entry.details["policy"])
