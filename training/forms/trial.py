"""A text to try: what a lead types, and how it reads as a chat with sampling settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator

from training.models import Policy, Recipe
from training.services.trials import LONGEST_TEXT, NewTrial, TrialRefused, chat_of
from training.serving.client import SamplingSettings

FORMATS = (("text", "Text"), ("chat", "Chat (JSON)"))
MOST_TOKENS = 2048


class TrialForm(forms.Form):
    """Any text or chat, two to four policies, and the settings that are sent with it."""

    text = forms.CharField(
        label="Prompt",
        strip=False,
        max_length=LONGEST_TEXT,
        widget=forms.Textarea(attrs={"rows": 4, "placeholder": "Ask anything"}),
    )
    format = forms.ChoiceField(choices=FORMATS, initial="text", label="Reads as")
    policies = forms.TypedMultipleChoiceField(
        coerce=int,
        widget=forms.CheckboxSelectMultiple,
        label="Policies, two to four",
        error_messages={"required": "Choose two to four policies to see side by side."},
    )
    temperature = forms.FloatField(validators=[MinValueValidator(0.0), MaxValueValidator(2.0)])
    top_p = forms.FloatField(label="Top-p", validators=[MinValueValidator(0.01), MaxValueValidator(1.0)])
    max_tokens = forms.IntegerField(
        label="Most tokens", validators=[MinValueValidator(1), MaxValueValidator(MOST_TOKENS)]
    )

    def __init__(self, *args: Any, policies: Sequence[Policy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["policies"]
        assert isinstance(field, forms.TypedMultipleChoiceField)
        field.choices = [(policy.number, policy.label) for policy in policies]

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if "text" in values and "format" in values:
            try:
                values["messages"] = chat_of(values["text"], is_chat=values["format"] == "chat")
            except TrialRefused as refusal:
                self.add_error("text", str(refusal))
        return values

    def new_trial(self) -> NewTrial:
        """Return what the checked form asks for."""
        values = self.cleaned_data
        return NewTrial(
            messages=values["messages"],
            policies=tuple(values["policies"]),
            settings=SamplingSettings(
                temperature=values["temperature"], top_p=values["top_p"], max_tokens=values["max_tokens"]
            ),
        )


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that the study's rounds are sampled with, to begin from."""
    return {
        "temperature": recipe.temperature,
        "top_p": recipe.top_p,
        "max_tokens": min(recipe.max_new_tokens, MOST_TOKENS),
    }
