"""The form of a study's recipe: each setting with what it does, its range and what is usual."""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

from training.models import Recipe


@dataclass(frozen=True)
class NumberSetting:
    """A number of the recipe. The range is closed; `whole` numbers have no decimals."""

    name: str
    label: str
    low: float
    high: float
    usual: str
    help: str
    whole: bool = False
    optional: bool = False

    def field(self) -> forms.Field:
        kind = forms.IntegerField if self.whole else forms.FloatField
        number = "a whole number" if self.whole else "a number"
        say = f"{self.label} must be {number}; {self.usual} is usual."
        mode = "numeric" if self.whole else "decimal"
        widget = forms.TextInput(attrs={"inputmode": mode, "autocomplete": "off"})
        return kind(
            label=self.label,
            help_text=f"{self.help} {self.range}",
            widget=widget,
            required=not self.optional,
            error_messages=dict.fromkeys(SAID, say),
        )

    @property
    def range(self) -> str:
        """Return the range and what is usual, as a sentence; the trainer's own ranges are in `help`."""
        usual = f"usual: {self.usual}"
        if isfinite(self.low) and isfinite(self.high):
            return f"From {self.low:g} to {self.high:.10g}; {usual}."
        return f"{usual[0].upper()}{usual[1:]}."

    def fault(self, value: float) -> str:
        if self.low <= value <= self.high:
            return ""
        bounds = f"must lie between {self.low:g} and {self.high:.10g}"
        shown = value if self.whole else f"{value:g}"  # a whole number may be beyond the largest float
        return f"{self.label} = {shown} {bounds}; {self.usual} is usual."


SAID = ("invalid", "required")

SAMPLING = (
    NumberSetting(
        "temperature",
        "Temperature",
        0,
        2,
        "1.0",
        "How freely responses are drawn. 1.0 samples the model as it is; only there the KL estimate holds.",
    ),
    NumberSetting(
        "top_p",
        "Top-p",
        0.01,
        1,
        "1.0, or 0.95 against a small model's nonsense",
        "Draws only from the likeliest tokens that make up this share. 1.0 leaves nothing out.",
    ),
    NumberSetting(
        "top_k",
        "Top-k",
        0,
        1000,
        "0",
        "Draws only from so many of the likeliest tokens. 0 leaves nothing out.",
        whole=True,
    ),
    NumberSetting(
        "min_p",
        "Min-p",
        0,
        1,
        "0",
        "Draws only from tokens at least so likely, as a share of the likeliest one's. 0 leaves nothing out.",
    ),
    NumberSetting(
        "max_new_tokens",
        "Longest response",
        8,
        8192,
        "96 on a small model",
        "In tokens. Responses that reach it are cut; if many are, a judge of length cannot tell them apart.",
        whole=True,
    ),
    NumberSetting(
        "heldout_samples",
        "Samples per held-out prompt",
        1,
        16,
        "2",
        "How many responses every policy gives to each held-out prompt, for the comparison.",
        whole=True,
    ),
)
PAIRS = (
    NumberSetting(
        "samples_per_prompt",
        "Responses per prompt",
        2,
        16,
        "2, or 4 where pairs are chosen",
        "How many a round draws for each training prompt; people compare two. More cost sampling time.",
        whole=True,
    ),
    NumberSetting(
        "random_share",
        "Random share",
        0.05,
        1,
        "0.25",
        "Share of the prompts whose pair is drawn at random whatever the choice: labels on the policy as it "
        "is, which figures about it can be trusted to.",
    ),
)
TRAINING = (
    NumberSetting(
        "beta",
        "β",
        float("-inf"),
        float("inf"),
        "0.1",
        "How strongly the policy is held to the SFT reference; above 0. Lower moves faster and further: "
        "below 0.05 the reference hardly counts, and the policy may collapse into a few phrases.",
    ),
    NumberSetting(
        "learning_rate",
        "Learning rate",
        float("-inf"),
        1,
        "5e-6 to 5e-5 from a billion parameters on, 1e-4 to 5e-4 on a 135 M model",
        "Size of a step; above 0. A new study has 5e-5. Too high shows as a jumping loss and a gradient norm "
        "that grows.",
    ),
    NumberSetting(
        "epochs",
        "Epochs",
        1,
        100,
        "1 to 3",
        "How often a run goes over its preferences. More than 3 mostly over-optimises.",
        whole=True,
    ),
    NumberSetting(
        "pairs_per_step",
        "Pairs per step",
        1,
        1024,
        "8 to 128, or 4 with a hundred preferences",
        "How many preferences one optimiser step averages over.",
        whole=True,
    ),
    NumberSetting(
        "max_length",
        "Longest sequence",
        64,
        131072,
        "2048",
        "Prompt and response together, in tokens. Longer pairs are left out of training and counted.",
        whole=True,
    ),
    NumberSetting(
        "lora_r",
        "LoRA rank",
        1,
        64,
        "16",
        "Size of the adapter. Fixed once the study has trained a policy.",
        whole=True,
    ),
    NumberSetting(
        "lora_alpha",
        "LoRA α",
        1,
        1024,
        "twice the rank",
        "Scales the adapter by α / rank. Fixed once the study has trained a policy.",
        whole=True,
    ),
    NumberSetting(
        "seed",
        "Seed",
        0,
        2_147_483_647,
        "0",
        "Order of the data and start of the adapter.",
        whole=True,
    ),
)
ROUNDS = (
    NumberSetting(
        "minimum_labels",
        "Fewest preferences",
        2,
        1_000_000,
        "16 for a demo, hundreds for a real study",
        "A round trains only with at least this many usable preferences.",
        whole=True,
    ),
)
# Their ranges are the trainer's, which the service asks.
ANY = (float("-inf"), float("inf"))
LOSS = (
    NumberSetting(
        "label_smoothing",
        "Label smoothing ε",
        *ANY,
        "0.1",
        "For cDPO and robust DPO: the chance that a label is wrong, from 0 to below 0.5.",
        optional=True,
    ),
    NumberSetting(
        "gamma",
        "SimPO's γ",
        *ANY,
        "half of β",
        "For SimPO, whose β is about 2: the margin that is asked for, 0 at least.",
        optional=True,
    ),
    NumberSetting(
        "orpo_lambda",
        "ORPO's λ",
        *ANY,
        "0.1",
        "For ORPO: weight of the preference beside the SFT loss, above 0. ORPO has no β.",
        optional=True,
    ),
    NumberSetting(
        "nu",
        "ν of ties",
        *ANY,
        "3 for Rao–Kupper, 1 for Davidson",
        "For the losses with ties: how common ties are. Rao–Kupper: above 1; Davidson: above 0.",
        optional=True,
    ),
    NumberSetting(
        "nll_alpha",
        "α of NLL",
        *ANY,
        "0.2 to 1",
        "Adds α × the negative log-likelihood of the chosen response: against chosen responses becoming less "
        "likely. Every loss but ORPO takes it; empty adds nothing.",
        optional=True,
    ),
)
NUMBERS = SAMPLING + PAIRS + TRAINING + LOSS + ROUNDS
CHOICES = ("dtype", "loss", "pair_choice")
GROUPS = {"Sampling": SAMPLING, "Pairs": PAIRS, "Training": TRAINING, "Loss": LOSS, "Rounds": ROUNDS}


class RecipeForm(forms.Form):
    """The whole recipe. Rules between settings, and those of β and the learning rate, are the service's."""

    base_model = forms.CharField(
        max_length=500,
        label="Base model",
        help_text="A folder here or a Hugging Face id: the SFT reference. Fixed once a round is open.",
    )
    dtype = forms.ChoiceField(
        choices=Recipe.Dtype.choices,
        label="Precision",
        help_text="Of the base model while training. The adapter itself is always trained in float32.",
    )

    pair_choice = forms.ChoiceField(
        choices=Recipe.PairChoice.choices,
        label="Which two are compared",
        help_text="Of more than two responses. By implicit reward: where the policy is least sure and a "
        "label tells it most; from the SFT reference, whose rewards are all 0, at random. By length: against "
        "judges who like what is long. A share is always drawn at random.",
    )
    loss = forms.ChoiceField(
        choices=Recipe.Loss.choices,
        label="Loss",
        help_text="What a run minimises. DPO unless there is a reason; those with ties also learn from ties. "
        "An empty parameter below is the loss's usual one; one that the loss does not use is refused.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields |= {setting.name: setting.field() for setting in NUMBERS}

    def clean(self) -> dict[str, Any]:
        for setting in NUMBERS:
            value = self.cleaned_data.get(setting.name)
            if value is not None and (fault := setting.fault(value)):
                self.add_error(setting.name, fault)
        return self.cleaned_data

    def add_faults(self, error: ValidationError) -> None:
        """Show what the service refused beside the fields it names."""
        for name, messages in error.message_dict.items():
            self.add_error(name if name in self.fields else None, messages)

    def groups(self) -> dict[str, list[forms.BoundField]]:
        """Return the fields under their headings."""
        numbers = {title: [self[setting.name] for setting in settings] for title, settings in GROUPS.items()}
        numbers["Loss"].insert(0, self["loss"])
        numbers["Pairs"].insert(1, self["pair_choice"])
        return {"Model": [self["base_model"], self["dtype"]], **numbers}


def recipe_values(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as the form's initial values, small numbers as people write them."""
    names = ["base_model", *CHOICES, *(setting.name for setting in NUMBERS)]
    return {name: readable(getattr(recipe, name)) for name in names}


def readable(value: Any) -> Any:
    """Return a float with all its digits, yet 5e-5 rather than 5e-05; other values as they are."""
    if value is None:
        return ""
    return repr(value).replace("e-0", "e-") if isinstance(value, float) else value
