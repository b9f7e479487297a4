"""What people type into the lead's pages."""

from typing import Any

from django import forms
from django.conf import settings
from django.template.defaultfilters import filesizeformat

from annotate.errors import PromptFileError
from annotate.models import Role, User
from annotate.services.prompts import read_lines
from training.services.base_models import BaseModelError, check_base_model
from training.services.studies import Member


class StudyForm(forms.Form):
    """A new study. What the lines of the prompt file hold is checked by the service that reads them."""

    name = forms.CharField(
        max_length=120, help_text="What people will call it, for example “Shorter answers”."
    )
    base_model = forms.CharField(
        max_length=500,
        help_text="A folder on this machine or a Hugging Face id. It needs safetensors weights, a tokenizer "
        "and a chat template. It is the SFT reference of every round, unless it learns from demonstrations "
        "first (on the recipe page); from round 1 on it never changes.",
    )
    prompts = forms.FileField(
        required=False,
        label="Prompt file",
        help_text='JSONL, one prompt a line: {"prompt": "…"} or {"messages": [{"role": "user", "content": '
        '"…"}]}; tags, id and split may be given too. You can also import prompts later.',
    )
    heldout_percent = forms.IntegerField(
        min_value=0,
        max_value=90,
        initial=25,
        label="Held-out share",
        help_text="Per cent of the prompts that are never trained on, only used to compare policies. Lines "
        "that name their own split keep it.",
        error_messages={
            "min_value": "The held-out share must lie between 0 and 90 per cent; 25 is usual.",
            "max_value": "The held-out share must lie between 0 and 90 per cent; 25 is usual.",
        },
    )
    guidelines = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 8}),
        help_text="Markdown, shown beside every pair: what makes a response better, and what does not count.",
    )
    labels_per_pair = forms.IntegerField(
        min_value=1,
        max_value=20,
        initial=1,
        help_text="How many different annotators judge each pair. More than one shows how far people agree.",
    )
    members = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "placeholder": "anna annotator\nben viewer"}),
        help_text="One user name a line and a role: annotator (the default), viewer or lead. You are lead "
        "already.",
    )

    def clean_base_model(self) -> str:
        try:
            return check_base_model(self.cleaned_data["base_model"]).path_or_id
        except BaseModelError as error:
            raise forms.ValidationError(str(error)) from error

    def clean_prompts(self) -> Any:
        upload = self.cleaned_data["prompts"]
        limit = settings.MAX_PROMPT_FILE_BYTES
        if upload and upload.size > limit:
            raise forms.ValidationError(
                f"{upload.name} has {filesizeformat(upload.size)}; at most {filesizeformat(limit)} can be "
                "uploaded. Use “manage.py import_prompts” for more."
            )
        return upload

    def clean_members(self) -> list[Member]:
        lines = [line.split() for line in self.cleaned_data["members"].splitlines()]
        users = {
            user.username: user
            for user in User.objects.filter(username__in=[line[0] for line in lines if line])
        }
        faults: list[str] = []
        members: list[Member] = []
        for number, line in enumerate(lines, start=1):
            fault = member_fault(line, users=users)
            if fault:
                faults.append(f"Line {number}: {fault}")
            elif line:
                members.append(Member(user=users[line[0]], role=role_of(line)))
        if faults:
            raise forms.ValidationError(faults)
        return members

    def add_prompt_errors(self, error: PromptFileError) -> None:
        """Show the faults of a prompt file beside its field."""
        for fault in error.errors:
            self.add_error("prompts", f"Line {fault.line}: {fault.message}")
        if error.count > len(error.errors):
            self.add_error(
                "prompts", f"… and {error.count - len(error.errors)} more lines. Nothing was imported."
            )

    def service_arguments(self) -> dict[str, Any]:
        """Return what `create_training_study` takes."""
        values = self.cleaned_data
        return {
            "name": values["name"],
            "base_model": values["base_model"],
            "guidelines": values["guidelines"],
            "labels_per_pair": values["labels_per_pair"],
            "members": values["members"],
            "heldout_share": values["heldout_percent"] / 100,
            "prompts": read_lines(values["prompts"]) if values["prompts"] else None,
        }


def member_fault(line: list[str], *, users: dict[str, User]) -> str:
    """Return what is wrong with a line of the members field, or nothing."""
    if not line:
        return ""
    if len(line) > 2 or (len(line) == 2 and line[1].lower() not in Role.values):
        return f"“{' '.join(line)}” is not a user name and a role; the roles are {', '.join(Role.values)}."
    if line[0] not in users:
        return (
            f"There is no user “{line[0]}”; leave the line out and add the person on the settings page later."
        )
    return ""


def role_of(line: list[str]) -> Role:
    return Role(line[1].lower()) if len(line) == 2 else Role.ANNOTATOR
