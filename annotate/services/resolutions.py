"""A lead decides on a pair: which verdict goes before the votes, or that it is used for nothing."""

from annotate.errors import ReviewRefused
from annotate.gate import write_transaction
from annotate.models import Pair, Resolution, User, Verdict
from annotate.services.audit import record_audit


def resolve_pair(*, pair: Pair, verdict: Verdict | None, note: str, actor: User) -> Resolution:
    """Let this verdict decide the pair in training sets from now on; None leaves the pair out.

    The votes stay as they are. A run that has started keeps the set it was given. Raises ReviewRefused for a
    pair that is not of the ordinary queue.
    """
    if pair.is_check:
        raise ReviewRefused(f"Pair {pair.pk} is a check; it is used for nothing that could be resolved.")
    with write_transaction():
        resolution, _ = Resolution.objects.update_or_create(
            pair=pair,
            defaults={
                "verdict": verdict.value if verdict else "",
                "left_out": verdict is None,
                "note": note.strip()[:2000],
                "resolved_by": actor,
            },
        )
        details = {"pair": pair.pk, "verdict": verdict.value if verdict else "left out"}
        record_audit(study=pair.study, actor=actor, action="pair.resolved", details=details)
    return resolution


def take_back_resolution(*, pair: Pair, actor: User) -> bool:
    """Let the votes decide again; False when nothing was resolved."""
    with write_transaction():
        earlier = Resolution.objects.filter(pair=pair).first()
        if earlier is None:
            return False
        details = {"pair": pair.pk, "was": earlier.verdict or "left out"}
        earlier.delete()
        record_audit(study=pair.study, actor=actor, action="pair.unresolved", details=details)
    return True
