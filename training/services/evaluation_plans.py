"""What a study asks of its policies, changed with a record of who changed it."""

from __future__ import annotations

from django.db import transaction

from annotate.models import Study, User
from annotate.services.audit import record_audit
from training.models import EvaluationPlan


def update_plan(*, study: Study, values: dict[str, float | None], actor: User | None) -> EvaluationPlan:
    """Change the study's evaluation plan; the gate of every policy is judged by it from now on.

    Raises ValidationError for a value out of its range, and then changes nothing.
    """
    with transaction.atomic():
        plan = EvaluationPlan.objects.filter(study=study).first() or EvaluationPlan(study=study)
        before = {name: getattr(plan, name) for name in values}
        for name, value in values.items():
            setattr(plan, name, value)
        plan.full_clean(exclude=["study"])
        plan.save()
        changed = {name: [before[name], value] for name, value in values.items() if before[name] != value}
        if changed:
            record_audit(study=study, actor=actor, action="evaluation_plan.changed", details=changed)
    return plan
