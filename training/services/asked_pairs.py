"""Taking back blind pairs that a lead asked for, and putting them back when more are asked for."""

from __future__ import annotations

from annotate.gate import write_transaction
from annotate.models import AuditEntry, Pair, Study, User
from annotate.services.audit import record_audit
from annotate.services.review import restore_pair, withdraw_pair
from training.models import Policy
from training.selectors.asked_pairs import TAKEN_BACK, last_asked


def take_back(study: Study, *, actor: User) -> int:
    """Withdraw what this lead asked for last and nobody has judged, skipped or holds; returns how many."""
    with write_transaction():
        asked = last_asked(study, actor=actor)
        if asked is None:
            return 0
        for pair in Pair.objects.filter(pk__in=asked.open_pairs).select_related("study"):
            withdraw_pair(pair=pair, actor=actor)
        details = {"policy": asked.policy_number, "asked": list(asked.open_pairs)}
        record_audit(study=study, actor=actor, action=TAKEN_BACK, details=details)
        return len(asked.open_pairs)


def put_back(policy: Policy, *, pairs: int, actor: User) -> list[int]:
    """Put up to `pairs` pairs of the policy that were taken back into the queue again; returns their ids."""
    entries = AuditEntry.objects.filter(
        study=policy.study_id, action=TAKEN_BACK, details__policy=policy.number
    )
    taken = {pair for details in entries.values_list("details", flat=True) for pair in details["asked"]}
    withdrawn = Pair.objects.filter(pk__in=taken, state=Pair.State.WITHDRAWN, preferences=None)
    found = list(withdrawn.select_related("study").order_by("pk")[:pairs])
    for pair in found:
        restore_pair(pair=pair, actor=actor)
    return [pair.pk for pair in found]
