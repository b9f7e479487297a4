"""The form of a training set's rules: each with what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms

from training.training_set.rules import Aggregation, BothBad, Edits, Rules, Strength, Ties, rule_faults

ALIKE_CHOICES = [
    ("", "Keep them"),
    ("0.95", "Leave out from 95 % on"),
    ("0.9", "Leave out from 90 % on"),
    ("0.8", "Leave out from 80 % on"),
    ("0.7", "Leave out from 70 % on"),
]
WEIGHT_ERRORS = dict.fromkeys(
    ("invalid", "required", "min_value", "max_value"),
    "Weight of earlier rounds must be a number from 0 to 1; 0.5 is usual.",
)


class RulesForm(forms.Form):
    """The rules; what a loss cannot follow is marked at the rule."""

    aggregation = forms.ChoiceField(
        label="Several votes on a pair",
        choices=[
            (Aggregation.MAJORITY.value, "The majority decides"),
            (Aggregation.SHARE.value, "Soft: the share of votes"),
            (Aggregation.RELIABILITY.value, "Soft: by reliability"),
        ],
        help_text="Where two verdicts lead alike, the majority leaves the pair out. A soft label is the "
        "probability that the chosen response is the better one; reliability is estimated from who agrees "
        "with whom (Dawid–Skene).",
    )
    ties = forms.ChoiceField(
        choices=[
            (Ties.LEARN.value, "As ties, if the loss can"),
            (Ties.HALF.value, "As even pairs, p = ½"),
            (Ties.LEAVE_OUT.value, "Leave out"),
        ],
        help_text="Rao–Kupper and Davidson know ties; with any other loss the first choice leaves them out.",
    )
    both_bad = forms.ChoiceField(
        label="Both are bad",
        choices=[(BothBad.LEAVE_OUT.value, "Leave out"), (BothBad.TIE.value, "Like a tie")],
        help_text="Neither response is one to learn from; edits made of them are used all the same.",
    )
    strength = forms.ChoiceField(
        label="Strength of a preference",
        choices=[
            (Strength.ALIKE.value, "Counts alike"),
            (Strength.WEIGH.value, "Weighs: a quarter … 1"),
            (Strength.CLEAR.value, "Only “better” or more"),
        ],
        help_text="The mean of a pair's grades: negligibly ¼, slightly ½, better ¾, significantly 1. A pair "
        "that nobody graded counts as “better”.",
    )
    edits = forms.ChoiceField(
        choices=[
            (Edits.ORIGINAL.value, "Preferred to what they edited"),
            (Edits.BOTH.value, "Preferred to both responses"),
            (Edits.LEAVE_OUT.value, "Leave out"),
        ],
        help_text="Better texts that annotators wrote; each is an example of its own.",
    )
    most_alike = forms.ChoiceField(
        label="Near-duplicates",
        choices=ALIKE_CHOICES,
        required=False,
        help_text="Pairs whose two responses share this much of their words, in order.",
    )
    older_weight = forms.FloatField(
        label="Weight of earlier rounds",
        min_value=0,
        max_value=1,
        error_messages=WEIGHT_ERRORS,
        widget=forms.NumberInput(attrs={"step": "0.05", "inputmode": "decimal"}),
        help_text="Beside 1 for the newest round. 0 trains on the newest round alone.",
    )
    fades = forms.BooleanField(label="Again for each round further back", required=False)
    annotators = forms.MultipleChoiceField(
        label="Leave out the labels of",
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, *args: Any, people: Mapping[int, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        annotators = self.fields["annotators"]
        assert isinstance(annotators, forms.MultipleChoiceField)
        annotators.choices = [(str(user), name) for user, name in people.items()]

    def rules(self) -> Rules:
        """Return the rules of a valid form."""
        data = self.cleaned_data
        return Rules(
            ties=Ties(data["ties"]),
            both_bad=BothBad(data["both_bad"]),
            strength=Strength(data["strength"]),
            aggregation=Aggregation(data["aggregation"]),
            edits=Edits(data["edits"]),
            older_weight=data["older_weight"],
            fades=data["fades"],
            most_alike=float(data["most_alike"]) if data["most_alike"] else None,
            annotators_left_out=tuple(map(int, data["annotators"])),
        )

    def add_faults(self, *, loss: str) -> None:
        """Mark the rules that the loss cannot follow."""
        for name, sentence in rule_faults(self.rules(), loss=loss).items():
            self.add_error(name, sentence)


def form_values(rules: Rules) -> dict[str, Any]:
    """Return rules as the form's data."""
    values = rules.as_json()
    return {
        **{name: values[name] for name in ("ties", "both_bad", "strength", "aggregation", "edits")},
        "older_weight": f"{rules.older_weight:g}",
        "most_alike": "" if rules.most_alike is None else f"{rules.most_alike:g}",
        "annotators": [str(user) for user in rules.annotators_left_out],
        **({"fades": "on"} if rules.fades else {}),
    }
