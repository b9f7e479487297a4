"""The record of who changed what; rows are only ever added."""

from typing import Any

from annotate.models import AuditEntry, Study, User


def record_audit(
    *, study: Study | None, actor: User | None, action: str, details: dict[str, Any] | None = None
) -> AuditEntry:
    """Add an entry; call it inside the transaction of the change that it tells of."""
    return AuditEntry.objects.create(study=study, actor=actor, action=action, details=details or {})
