"""The form of further runs on the labels of a round; some settings take several values, tried one by one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from typing import Any

from django import forms

from training.core.errors import ConfigError
from training.core.run.config import LOSS_KEYS
from training.forms.recipe import NUMBERS, NumberSetting, readable
from training.models import Recipe, Run
from training.services.further_runs import MOST_RUNS_AT_ONCE, RunPlan, plan_of_run
from training.services.recipes import LOSS_FIELDS, field_of_fault, loss_of

SETTINGS = {setting.name: setting for setting in NUMBERS}
# A value or several: every combination is a run of its own.
SWEPT = ("beta", "learning_rate", "epochs", "seed")
SINGLE = ("pairs_per_step", *LOSS_FIELDS)
CONTINUE, REFERENCE = "continue", "reference"
SEVERAL = "Several values, separated by commas, make a run each."


class SweptField(forms.CharField):
    """Numbers separated by commas, semicolons or spaces; cleans to a list without repetitions."""

    def __init__(self, setting: NumberSetting) -> None:
        super().__init__(
            label=setting.label,
            help_text=f"{setting.help} {SEVERAL}",
            widget=forms.TextInput(attrs={"inputmode": "text", "autocomplete": "off"}),
            error_messages={"required": f"{setting.label} must have a value; {setting.usual} is usual."},
        )
        self.setting = setting

    def clean(self, value: Any) -> list[float]:
        texts = [part for part in re.split(r"[,;\s]+", super().clean(value)) if part]
        return list(dict.fromkeys(self._number(text) for text in texts))

    def _number(self, text: str) -> float:
        setting = self.setting
        try:
            number = int(text) if setting.whole else float(text)
        except ValueError as error:
            kind = "a whole number" if setting.whole else "a number"
            raise forms.ValidationError(
                f"{setting.label} = {text} must be {kind}; {setting.usual} is usual."
            ) from error
        if fault := setting.fault(number):
            raise forms.ValidationError(fault)
        if number <= 0 and setting.name in ("beta", "learning_rate"):
            raise forms.ValidationError(
                f"{setting.label} = {text} must be above 0; {setting.usual} is usual."
            )
        return number


class FurtherRunForm(forms.Form):
    """What the new runs do differently from the one that they are copied from."""

    start = forms.ChoiceField(label="Start from", widget=forms.RadioSelect)
    loss = forms.ChoiceField(choices=Recipe.Loss.choices, label="Loss")

    def __init__(self, data: Any = None, *, source: Run, proposed: Mapping[str, str] | None = None) -> None:
        super().__init__(data, initial={**run_values(source), **(proposed or {})})
        sampled = source.round.sampled_policy
        self.fields["start"].choices = (  # type: ignore[attr-defined]
            [(CONTINUE, f"{sampled.label}: goes on with the adapter that was sampled")]
            if sampled.number
            else []
        ) + [(REFERENCE, "the SFT reference: a fresh adapter")]
        self.fields |= {name: SweptField(SETTINGS[name]) for name in SWEPT}
        self.fields |= {name: SETTINGS[name].field() for name in SINGLE}

    def clean(self) -> dict[str, Any]:
        for name in SINGLE:
            value = self.cleaned_data.get(name)
            if value is not None and (fault := SETTINGS[name].fault(value)):
                self.add_error(name, fault)
        if not self.errors:
            self._check_loss()
        return self.cleaned_data

    def _check_loss(self) -> None:
        # Counted before any plan is made: some fields of many values multiply to millions.
        count = math.prod(len(values) for values in self._tried())
        if count > MOST_RUNS_AT_ONCE:
            said = f"That makes {count} runs; at most {MOST_RUNS_AT_ONCE} start at once. Give fewer values."
            self.add_error(None, said)
            return
        try:
            self.plans()
        except ConfigError as error:
            field = field_of_fault(error)
            self.add_error(field if field in self.fields else None, f"{error}.")

    def _tried(self) -> list[list[float]]:
        """Return the values of each setting that takes several, in the order of `SWEPT`."""
        values = self.cleaned_data
        # A loss without β has nothing to vary there.
        betas = values["beta"] if "beta" in LOSS_KEYS[values["loss"]] else values["beta"][:1]
        return [betas, *(values[name] for name in SWEPT if name != "beta")]

    def plans(self) -> list[RunPlan]:
        """Return a plan per combination of values. Raises ConfigError."""
        values = self.cleaned_data
        parameters = {name: values[name] for name in LOSS_FIELDS}
        return [
            RunPlan(
                loss=loss_of(values["loss"], beta=beta, parameters=parameters),
                learning_rate=rate,
                epochs=int(epochs),
                pairs_per_step=values["pairs_per_step"],
                seed=int(seed),
                from_reference=values["start"] == REFERENCE,
            )
            for beta, rate, epochs, seed in itertools.product(*self._tried())
        ]

    def groups(self) -> dict[str, list[forms.BoundField]]:
        """Return the fields under their headings."""
        return {
            "Tried one by one": [self[name] for name in SWEPT],
            "Loss": [self["loss"], *(self[name] for name in LOSS_FIELDS)],
            "Step": [self["pairs_per_step"]],
        }


def run_values(run: Run) -> dict[str, Any]:
    """Return a run's settings as the form's initial values."""
    plan = plan_of_run(run)
    loss = plan.loss.as_json()
    values = {
        "beta": plan.loss.beta,
        "learning_rate": plan.learning_rate,
        "epochs": plan.epochs,
        "pairs_per_step": plan.pairs_per_step,
        "seed": plan.seed,
        **{field: loss.get(key) for field, key in LOSS_FIELDS.items()},
    }
    return {name: readable(value) for name, value in values.items()} | {
        "loss": plan.loss.name,
        "start": REFERENCE if plan.from_reference else CONTINUE,
    }
