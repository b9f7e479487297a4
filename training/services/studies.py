"""A study that can go round the loop: people and prompts from `annotate`, a recipe and policy 0 from here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from annotate.models import Role, Study, User
from annotate.services.prompts import import_prompts
from annotate.services.studies import add_member, create_study
from training.models import Policy, Recipe
from training.services.base_models import check_base_model
from training.services.notices import refresh_queue_notice
from training.services.recipes import check_recipe

DEFAULT_HELDOUT_SHARE = 0.2


@dataclass(frozen=True)
class Member:
    """Someone to add to a new study."""

    user: User
    role: Role


def create_training_study(
    *,
    name: str,
    lead: User,
    base_model: str,
    guidelines: str = "",
    prompts: Iterable[bytes] | None = None,
    heldout_share: float = DEFAULT_HELDOUT_SHARE,
    members: Iterable[Member] = (),
    labels_per_pair: int = 1,
    recipe: dict[str, Any] | None = None,
) -> Study:
    """Create a study with its recipe, policy 0, prompts and members: all of it or nothing.

    `recipe` overrides the recipe's defaults. Raises BaseModelError, PromptFileError, StudyRefused,
    MemberRefused or ValidationError.
    """
    base = check_base_model(base_model)
    with transaction.atomic():
        study = create_study(name=name, lead=lead, guidelines=guidelines, labels_per_pair=labels_per_pair)
        values = Recipe(study=study, base_model=base.path_or_id, **(recipe or {}))
        check_recipe(values)
        values.save()
        Policy.objects.create(study=study, number=0, served_name=reference_name(study))
        for member in members:
            add_member(study=study, user=member.user, role=member.role, actor=lead)
        if prompts is not None:
            import_prompts(study=study, lines=prompts, heldout_share=heldout_share, actor=lead)
        refresh_queue_notice(study)
    return study


def reference_name(study: Study) -> str:
    """Return the name of policy 0; the engine serves it as its base model, without an adapter."""
    return f"{study.slug}-reference"
