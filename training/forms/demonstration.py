"""The form of a start from demonstrations: pasted lines or a file, and how to learn from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import forms
from django.conf import settings
from django.template.defaultfilters import filesizeformat

from annotate.services.prompts import read_lines
from training.demonstrations import EXPECTED, DemonstrationsRefused
from training.forms.recipe import NumberSetting
from training.services.demonstrations import LearningSettings
from training.serving.command import MAX_LORA_RANK

LEARNING = (
    NumberSetting(
        "learning_rate",
        "Learning rate",
        1e-7,
        0.1,
        "2e-4",
        "Size of a step. Higher than for preferences, since the model learns new text.",
    ),
    NumberSetting(
        "epochs",
        "Epochs",
        1,
        100,
        "1 to 3",
        "How often the run goes over the demonstrations. More than 3 tends to learn them by heart.",
        whole=True,
    ),
    NumberSetting(
        "demonstrations_per_step",
        "Demonstrations per step",
        1,
        1024,
        "8",
        "How many one optimiser step averages over.",
        whole=True,
    ),
    NumberSetting(
        "lora_r",
        "LoRA rank",
        1,
        MAX_LORA_RANK,
        "16",
        "Size of the adapter that learns; it is merged into the new base model at the end.",
        whole=True,
    ),
    NumberSetting(
        "heldout_share",
        "Held out",
        0.01,
        0.5,
        "0.1",
        "Share of the prompts, at least one of them, that is not learnt but looked at after each epoch: its "
        "loss and perplexity tell learning from learning by heart. Empty: none.",
        optional=True,
    ),
    NumberSetting(
        "patience",
        "Stop early after",
        1,
        100,
        "1 or 2",
        "So many looks at what is held out, one an epoch, without a lower loss end the run, and the best "
        "look's model is kept. Less than Epochs. Empty: it goes on to its last epoch and keeps that model.",
        whole=True,
        optional=True,
    ),
)


class DemonstrationForm(forms.Form):
    """What the lines hold is checked by the service that reads them."""

    text = forms.CharField(
        required=False,
        label="Demonstrations",
        widget=forms.Textarea(attrs={"rows": 8, "spellcheck": "false", "placeholder": EXPECTED}),
        help_text='One JSON object a line: {"prompt": "…", "completion": "…"}, or {"messages": […]}, the '
        "assistant's answer last.",
    )
    file = forms.FileField(required=False, label="Or a JSONL file")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields |= {setting.name: setting.field() for setting in LEARNING}
        usual = LearningSettings()
        for setting in LEARNING:
            value = getattr(usual, setting.name)
            self.fields[setting.name].initial = "2e-4" if value == 2e-4 else value

    def clean(self) -> dict[str, Any]:
        for setting in LEARNING:
            value = self.cleaned_data.get(setting.name)
            if value is not None and (fault := setting.fault(value)):
                self.add_error(setting.name, fault)
        if fault := self._early_stop_fault():
            self.add_error("patience", fault)
        upload, limit = self.cleaned_data.get("file"), settings.MAX_PROMPT_FILE_BYTES
        if upload and upload.size > limit:
            self.add_error(
                "file",
                f"{upload.name} has {filesizeformat(upload.size)}; {filesizeformat(limit)} are the most.",
            )
        if not upload and not self.cleaned_data.get("text", "").strip():
            self.add_error("text", "Paste demonstrations or choose a file.")
        return self.cleaned_data

    def _early_stop_fault(self) -> str:
        """Return why the run cannot stop early as asked; fields that are faulty themselves say enough."""
        patience, epochs = self.cleaned_data.get("patience"), self.cleaned_data.get("epochs")
        if not patience:
            return ""
        if "heldout_share" not in self.errors and not self.cleaned_data["heldout_share"]:
            return "Stopping early goes by what is held out; give Held out a share, 0.1 is usual."
        if epochs and patience >= epochs:
            return (
                f"Stop early after = {patience} can never end a run of Epochs = {epochs}, with one look an "
                "epoch; lower it below Epochs, raise Epochs, or leave it empty."
            )
        return ""

    def lines(self) -> Iterable[bytes]:
        """Return the lines of the file, where there is one, else those that were pasted."""
        upload = self.cleaned_data["file"]
        return read_lines(upload) if upload else self.cleaned_data["text"].encode().splitlines()

    def settings(self) -> LearningSettings:
        return LearningSettings(**{setting.name: self.cleaned_data[setting.name] for setting in LEARNING})

    def add_line_faults(self, error: DemonstrationsRefused) -> None:
        """Show the faults of lines beside the field that they came in by."""
        field = "file" if self.cleaned_data.get("file") else "text"
        for fault in error.faults:
            self.add_error(field, f"Line {fault.line}: {fault.message}")
        if error.count > len(error.faults):
            self.add_error(field, f"… and {error.count - len(error.faults)} more lines. Nothing was taken.")

    def numbers(self) -> list[forms.BoundField]:
        return [self[setting.name] for setting in LEARNING]
