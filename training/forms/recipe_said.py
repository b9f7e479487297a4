"""What the recipe's form says at its fields while values are typed: warnings, notes and faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from training.forms.recipe import RecipeForm

# How the sentences begin that are about one setting; the trainer names it as config.json does.
BEGINNINGS = {
    "beta": ("β = ",),
    "learning_rate": ("Learning rate = ", "optimizer.learning_rate = "),
    "pairs_per_step": ("optimizer.pairs_per_step = ",),
    "temperature": ("Temperature = ",),
    "pair_choice": ("Two responses per prompt ",),
}


class Kind(StrEnum):
    """How a sentence at a field is to be taken."""

    NOTE = "note"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True)
class Said:
    """A sentence at the field of this name; empty where there is nothing to say."""

    name: str
    label: str
    text: str = ""
    kind: Kind = Kind.NOTE


def said_at_fields(
    form: RecipeForm, *, warnings: Sequence[str] = (), notes: Mapping[str, str] | None = None
) -> list[Said]:
    """Return what to say at each field: its warnings, or its note where it has none."""
    said = []
    for name, field in form.fields.items():
        own = " ".join(warning for warning in warnings if field_of(warning) == name)
        kind = Kind.WARNING if own else Kind.NOTE
        said.append(Said(name, str(field.label), own or (notes or {}).get(name, ""), kind))
    return said


def faults_at_fields(form: RecipeForm) -> list[Said]:
    """Return at each field what is wrong with the value that was typed there."""
    return [
        Said(name, str(field.label), " ".join(map(str, form.errors.get(name, []))), Kind.FAULT)
        for name, field in form.fields.items()
    ]


def field_of(warning: str) -> str | None:
    """Return the setting that a warning is about, None where it is about several."""
    return next((name for name, begins in BEGINNINGS.items() if warning.startswith(begins)), None)
