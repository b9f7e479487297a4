"""The form of a study's evaluation plan: how much people compare, and what the gate asks."""

from __future__ import annotations

from typing import Any

from django import forms

from training.models import EvaluationPlan

PERCENT = ("evaluation_share", "half_width", "win_rate_over_reference", "win_rate_over_parent", "cut_share")


def number(
    *, label: str, help_text: str, low: float, high: float, usual: str, required: bool = False
) -> forms.FloatField:
    """Return a field for a number between `low` and `high`; its errors name the value that is usual."""
    bounds = f"{label} must lie between {low:g} and {high:g}; {usual} is usual."
    return forms.FloatField(
        label=label,
        help_text=help_text,
        required=required,
        min_value=low,
        max_value=high,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        # Django formats the messages of the limits, and those alone, with %.
        error_messages={
            **dict.fromkeys(("invalid", "required"), bounds),
            **dict.fromkeys(("min_value", "max_value"), bounds.replace("%", "%%")),
        },
    )


class EvaluationPlanForm(forms.Form):
    """Shares are typed in per cent; an empty threshold is not checked."""

    evaluation_share = number(
        label="Evaluation pairs, %",
        help_text="Share of the pairs that annotators see: blind comparisons of a new policy with the SFT "
        "reference and its parent, on held-out prompts. They are never trained on.",
        low=0,
        high=80,
        usual="20",
        required=True,
    )
    half_width = number(
        label="Wanted precision, ± %",
        help_text="How exactly a win rate is to be known. The pages say how many prompts that still takes.",
        low=1,
        high=40,
        usual="10",
        required=True,
    )
    win_rate_over_reference = number(
        label="Win rate over the SFT reference, at least %",
        help_text="The lower end of the 95 % interval must reach it. Fails only once even the upper end lies "
        "below.",
        low=0,
        high=100,
        usual="50",
    )
    win_rate_over_parent = number(
        label="Win rate over the parent, at least %",
        help_text="The same against the policy that the round sampled.",
        low=0,
        high=100,
        usual="50",
    )
    length_growth = number(
        label="Length, at most × the SFT reference's",
        help_text="Mean tokens of the held-out responses. Judges like length; a model learns that first.",
        low=1,
        high=100,
        usual="1.5",
    )
    cut_share = number(
        label="Cut off, at most % of responses",
        help_text="Held-out responses that the length limit ended. Fails only where they are "
        "25 % of all more "
        "than the SFT reference's: text that has collapsed finds no end.",
        low=0,
        high=100,
        usual="50",
    )
    kl = number(
        label="KL to the SFT reference, at most nats a response",
        help_text="How far the policy has moved. Far is where rewards stop meaning what people meant.",
        low=0.1,
        high=100000,
        usual="50",
    )
    displacement = number(
        label="Displacement, at most nats a token",
        help_text="How much less likely than under the SFT reference the chosen responses may have become.",
        low=0.01,
        high=100,
        usual="0.5",
    )

    @classmethod
    def of(cls, plan: EvaluationPlan, *, data: Any = None) -> EvaluationPlanForm:
        """Return the form filled with the plan, or with what was typed."""
        values = {name: getattr(plan, name) for name in cls.base_fields}
        shown = {
            name: value if value is None else f"{100 * value if name in PERCENT else value:g}"
            for name, value in values.items()
        }
        return cls(data or None, initial=shown)

    def values(self) -> dict[str, float | None]:
        """Return the plan's values; shares between 0 and 1."""
        return {
            name: value / 100 if name in PERCENT and value is not None else value
            for name, value in self.cleaned_data.items()
        }

    @property
    def groups(self) -> dict[str, list[forms.BoundField]]:
        names = list(self.fields)
        return {
            "What people compare": [self[name] for name in names[:2]],
            "The gate": [self[name] for name in names[2:]],
        }
