"""What browsers send from the pages on which leads look after people and quality."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile

from annotate.models import Pair, Study, Verdict
from annotate.services.invites import INVITED_ROLES, LONGEST_DAYS

LEFT_OUT = "left_out"
CHECK_PURPOSES = [(Pair.Purpose.PRACTICE.value, "Practice"), (Pair.Purpose.GOLD.value, "Gold")]
PLAIN_NAME = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}


class InviteForm(forms.Form):
    role = forms.ChoiceField(choices=[(role.value, role.label) for role in INVITED_ROLES])
    days = forms.IntegerField(label="Days it lasts", min_value=1, max_value=LONGEST_DAYS, initial=7)
    max_uses = forms.IntegerField(
        label="People it lets in", min_value=1, max_value=10_000, required=False, initial=1
    )
    note = forms.CharField(
        label="Note", max_length=120, required=False, help_text="Whom it is for; only leads see it."
    )


class JoinForm(forms.Form):
    """An account for somebody who came by a link."""

    username = forms.CharField(
        max_length=150,
        help_text="Letters, digits and . @ + - _",
        widget=forms.TextInput(attrs={**PLAIN_NAME, "autocomplete": "username", "autofocus": ""}),
    )
    display_name = forms.CharField(
        label="Name", max_length=150, required=False, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    password = forms.CharField(
        strip=False,
        max_length=1000,
        help_text="At least 10 characters.",
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class KnownPairForm(forms.Form):
    """A gold or practice pair typed by hand."""

    purpose = forms.ChoiceField(label="Kind", choices=CHECK_PURPOSES)
    prompt = forms.CharField(max_length=100_000, widget=forms.Textarea(attrs={"rows": 3}))
    response_a = forms.CharField(
        label="Response A", max_length=100_000, widget=forms.Textarea(attrs={"rows": 4})
    )
    response_b = forms.CharField(
        label="Response B", max_length=100_000, widget=forms.Textarea(attrs={"rows": 4})
    )
    verdict = forms.ChoiceField(label="Expected verdict", choices=Verdict.choices)
    explanation = forms.CharField(
        required=False,
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Markdown. Shown after a practice pair; of a gold pair only leads see it. "
        "Sides are shuffled: name what tells the answers apart (“the longer one”), or write {a} and {b}, "
        "which are shown as the letters of response A and response B that the annotator saw.",
    )


class KnownPairImportForm(forms.Form):
    purpose = forms.ChoiceField(label="Kind", choices=CHECK_PURPOSES)
    file = forms.FileField(
        label="File (JSONL)",
        allow_empty_file=True,
        help_text="One pair on each line: prompt, response_a, response_b, verdict (a, b, tie or both_bad), "
        "explanation. Sides are shuffled: there, write {a} and {b} for the letters that were seen.",
        error_messages={"required": "Choose a file first."},
    )

    def clean_file(self) -> UploadedFile[Any]:
        file: UploadedFile[Any] = self.cleaned_data["file"]
        limit = settings.MAX_PROMPT_FILE_BYTES
        if (file.size or 0) > limit:
            raise forms.ValidationError(
                f"The file has {file.size:,} bytes; {limit:,} are possible. Split it."
            )
        return file


class MakeKnownForm(forms.Form):
    """A pair of the queue becomes a gold or practice pair."""

    purpose = forms.ChoiceField(label="Kind", choices=CHECK_PURPOSES)
    verdict = forms.ChoiceField(label="Expected verdict", choices=Verdict.choices)
    explanation = forms.CharField(required=False, max_length=20_000)


class ResolutionForm(forms.Form):
    decision = forms.ChoiceField(
        choices=[*Verdict.choices, (LEFT_OUT, "Leave it out")],
        error_messages={"required": "Choose a verdict, or leave the pair out."},
    )
    note = forms.CharField(required=False, max_length=2000)

    @property
    def verdict(self) -> Verdict | None:
        decision = self.cleaned_data["decision"]
        return None if decision == LEFT_OUT else Verdict(decision)


class FlagAnswerForm(forms.Form):
    answer = forms.CharField(required=False, max_length=2000)


class StudyStateForm(forms.Form):
    state = forms.ChoiceField(choices=Study.State.choices)


class ReassignForm(forms.Form):
    to = forms.IntegerField(min_value=1)


class SwitchForm(forms.Form):
    """Something about a member that is on or off."""

    on = forms.TypedChoiceField(choices=[("1", "on"), ("0", "off")], coerce=lambda value: value == "1")
