"""What browsers send, as types. The rules live in the services."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MaxValueValidator, MinValueValidator

from annotate.models import Flag, Role, Side, Study, User, Verdict
from annotate.services.editing import LONGEST_EDIT, Edit
from annotate.services.flags import LONGEST_NOTE

# What the screen calls A is the left pane, whatever the stored response's letter is.
SHOWN_VERDICTS = [("left", "A"), ("right", "B"), ("tie", "Tie"), ("both_bad", "Both are bad")]
LONGEST_RATIONALE = 10_000
PERCENT = [MinValueValidator(0), MaxValueValidator(90)]


class ActForm(forms.Form):
    """What every act says of itself: the client id of its form, so that a copy of it is known."""

    client_id = forms.UUIDField(required=False)


class UndoForm(ActForm):
    """An undo, under a client id of its own; `pair` is what the person saw as their last."""

    pair = forms.IntegerField(required=False, min_value=1, max_value=2**63 - 1)


class VerdictForm(forms.Form):
    """What somebody says of a pair, in terms of the screen."""

    verdict = forms.ChoiceField(
        choices=SHOWN_VERDICTS, error_messages={"required": "Choose A, B, Tie or Both are bad first."}
    )
    strength = forms.IntegerField(required=False, min_value=1, max_value=4)
    rationale = forms.CharField(required=False, max_length=LONGEST_RATIONALE)
    edit_side = forms.ChoiceField(required=False, choices=SHOWN_VERDICTS[:2])
    edit_text = forms.CharField(required=False, strip=False, max_length=10 * LONGEST_EDIT)

    def sentence(self) -> str:
        """Say what is wrong with the form in one sentence."""
        for name in ("verdict", "rationale", "edit_text"):
            if name in self.errors:
                return str(self.errors[name][0])
        return "The form is incomplete; reload the page and choose again."


class ChangeForm(VerdictForm):
    """Something else said of a pair; `stamp` names the label that the person had before them."""

    stamp = forms.CharField(max_length=64)


class JudgementForm(VerdictForm):
    """A new verdict; `shown` names the sides that were shown, `had_draft` that the server keeps a draft.

    `version` counts how often the person changed it before the server answered.
    """

    client_id = forms.UUIDField()
    shown = forms.CharField(max_length=64)
    duration_ms = forms.IntegerField(required=False, min_value=0)
    version = forms.IntegerField(required=False, min_value=0, max_value=10**9)
    had_draft = forms.BooleanField(required=False)


def stored_side(shown: str, *, left_side: Side) -> Side:
    """Translate left or right on the screen into the stored response."""
    return Side.A if (shown == "left") == (left_side == Side.A) else Side.B


def stored_edit(form: VerdictForm, *, left_side: Side) -> Edit | None:
    """Return the edit that a valid form carries, if any."""
    if not form.cleaned_data["edit_side"]:
        return None
    side = stored_side(form.cleaned_data["edit_side"], left_side=left_side)
    return Edit(side=side, text=form.cleaned_data["edit_text"])


def stored_verdict(shown: str, *, left_side: Side) -> Verdict:
    """Translate a verdict on the screen into one on the stored responses."""
    if shown in ("tie", "both_bad"):
        return Verdict(shown)
    return Verdict(stored_side(shown, left_side=left_side).value)


class PromptImportForm(forms.Form):
    file = forms.FileField(
        label="Prompt file (JSONL)",
        allow_empty_file=True,
        help_text="One JSON object on each line: messages, and optionally id, split and tags.",
        error_messages={"required": "Choose a file first."},
    )
    heldout_percent = forms.IntegerField(
        label="Held-out share, in percent",
        initial=20,
        validators=PERCENT,
        help_text="Of the lines without a split of their own. Held-out prompts are never trained on.",
    )

    def clean_file(self) -> UploadedFile[Any]:
        file: UploadedFile[Any] = self.cleaned_data["file"]
        limit = settings.MAX_PROMPT_FILE_BYTES
        if (file.size or 0) > limit:
            raise forms.ValidationError(
                f"The file has {file.size:,} bytes; {limit:,} are possible. Split it."
            )
        return file


class GuidelinesForm(forms.Form):
    text = forms.CharField(
        label="Guidelines",
        required=False,
        max_length=100_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 28, "spellcheck": "true"}),
        help_text="Markdown. Annotators read it beside every pair; each label remembers its version.",
    )
    based_on = forms.IntegerField(widget=forms.HiddenInput)


class StudySettingsForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="The address of the study stays as it is.")
    state = forms.ChoiceField(
        label="State",
        choices=Study.State.choices,
        help_text="Paused: nobody gets new pairs. Closed: labels are refused too.",
    )
    labels_per_pair = forms.IntegerField(
        label="Labels per pair",
        min_value=1,
        max_value=20,
        help_text="How many different annotators judge each pair; holds for open and new pairs.",
    )
    lease_minutes = forms.IntegerField(
        label="Minutes a pair is held",
        min_value=1,
        max_value=24 * 60,
        help_text="After this, a pair that was not labelled goes to somebody else.",
    )
    allow_tie = forms.BooleanField(label="Offer “Tie”", required=False)
    allow_both_bad = forms.BooleanField(label="Offer “Both are bad”", required=False)
    ask_strength = forms.BooleanField(label="Ask by how much the better one is better", required=False)
    allow_edit = forms.BooleanField(label="Let annotators edit responses", required=False)
    practice_pairs = forms.IntegerField(
        label="Practice pairs",
        min_value=0,
        max_value=20,
        help_text="How many somebody new judges, with feedback, before the first real pair.",
    )
    gold_percent = forms.FloatField(
        label="Gold pairs, in percent",
        min_value=0,
        max_value=50,
        help_text="Of the pairs that each person gets, while there are gold pairs they have not seen.",
    )
    repeat_percent = forms.FloatField(
        label="Repeats, in percent",
        min_value=0,
        max_value=50,
        help_text="A person's own earlier pairs, sides swapped; 3 is usual.",
    )


class MemberAddForm(forms.Form):
    username = forms.CharField(
        max_length=150,
        help_text="An account that exists, or a new one: its password is shown once.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    display_name = forms.CharField(
        max_length=150, required=False, help_text="For a new account: the name that others see."
    )
    role = forms.ChoiceField(choices=Role.choices, initial=Role.ANNOTATOR)


class RoleForm(forms.Form):
    role = forms.ChoiceField(choices=Role.choices)


class FlagForm(ActForm):
    reason = forms.ChoiceField(
        label="What is wrong?",
        choices=Flag.Reason.choices,
        widget=forms.RadioSelect,
        error_messages={"required": "Choose what is wrong with the pair."},
    )
    note = forms.CharField(
        label="Note to the lead",
        required=False,
        max_length=LONGEST_NOTE,
        widget=forms.Textarea(attrs={"rows": 3}),
    )


class ProfileForm(forms.Form):
    display_name = forms.CharField(
        label="Name", max_length=150, required=False, help_text="What colleagues see; empty: your username."
    )
    theme = forms.ChoiceField(choices=User.Theme.choices, widget=forms.RadioSelect)


class ThemeForm(forms.Form):
    theme = forms.ChoiceField(choices=User.Theme.choices)
