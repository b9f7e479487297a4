"""The rules that a study's training sets follow from now on."""

from __future__ import annotations

from django.db import transaction

from annotate.models import User
from annotate.services.audit import record_audit
from training.models import Recipe
from training.training_set.rules import Rules


def save_rules(*, recipe: Recipe, rules: Rules, actor: User | None) -> None:
    """Keep the rules for every later training set of the study; runs that exist keep theirs."""
    before = recipe.training_rules
    with transaction.atomic():
        recipe.training_rules = rules.as_json()
        recipe.save(update_fields=["training_rules"])
        record_audit(
            study=recipe.study,
            actor=actor,
            action="training_rules.changed",
            details={"before": before, "after": recipe.training_rules},
        )
