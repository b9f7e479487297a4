from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from annotate.models import Study

ABOVE_ZERO = 1e-12


class Recipe(models.Model):
    """A study's model and hyper-parameters. A run copies them; changes reach later runs only."""

    class Dtype(models.TextChoices):
        BFLOAT16 = "bfloat16", "bfloat16"
        FLOAT32 = "float32", "float32"

    class Loss(models.TextChoices):
        """The trainer's losses of pairs (training/core/losses)."""

        DPO = "dpo", "DPO"
        CDPO = "cdpo", "cDPO: labels are wrong with a known chance"
        ROBUST = "robust", "Robust DPO: the same, without its bias"
        IPO = "ipo", "IPO: a fixed margin, per token"
        IPO_SUM = "ipo_sum", "IPO: a fixed margin, summed"
        HINGE = "hinge", "Hinge: stops at margin 1"
        DPO_NORM = "dpo_norm", "Length-normalised DPO"
        SIMPO = "simpo", "SimPO: no reference, per token"
        ORPO = "orpo", "ORPO: no reference, with SFT"
        RAO_KUPPER = "rao_kupper", "DPO with ties (Rao–Kupper)"
        DAVIDSON = "davidson", "DPO with ties (Davidson)"

    class PairChoice(models.TextChoices):
        """Which two of more than two responses people compare (training/services/pair_choice.py)."""

        RANDOM = "random", "At random"
        MARGIN = "margin", "The closest implicit rewards: what the policy is least sure of"
        LENGTH = "length", "The closest lengths: length cannot decide"

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="recipe")
    base_model = models.CharField(
        max_length=500, help_text="A local folder or a Hugging Face id: the SFT reference."
    )
    base_sha256 = models.CharField(
        max_length=64, blank=True, help_text="Over its safetensors; set by the first job."
    )
    dtype = models.CharField(max_length=10, choices=Dtype.choices, default=Dtype.BFLOAT16)

    temperature = models.FloatField(default=1.0, validators=[MinValueValidator(0.0), MaxValueValidator(2.0)])
    top_p = models.FloatField(default=1.0, validators=[MinValueValidator(0.01), MaxValueValidator(1.0)])
    top_k = models.PositiveIntegerField(default=0, validators=[MaxValueValidator(1000)])
    min_p = models.FloatField(default=0.0, validators=[MinValueValidator(0.0), MaxValueValidator(1.0)])
    samples_per_prompt = models.PositiveSmallIntegerField(
        default=2,
        validators=[MinValueValidator(2), MaxValueValidator(16)],
        help_text="Responses drawn per training prompt; people compare two of them.",
    )
    pair_choice = models.CharField(max_length=10, choices=PairChoice.choices, default=PairChoice.RANDOM)
    random_share = models.FloatField(
        default=0.25,
        validators=[MinValueValidator(0.05), MaxValueValidator(1.0)],
        help_text="Share of the prompts whose pair is drawn at random whatever the choice.",
    )
    max_new_tokens = models.PositiveIntegerField(
        default=96, validators=[MinValueValidator(8), MaxValueValidator(8192)]
    )
    heldout_samples = models.PositiveSmallIntegerField(
        default=2,
        validators=[MinValueValidator(1), MaxValueValidator(16)],
        help_text="Responses drawn per held-out prompt from every policy.",
    )

    loss = models.CharField(max_length=20, choices=Loss.choices, default=Loss.DPO)
    beta = models.FloatField(default=0.1, validators=[MinValueValidator(ABOVE_ZERO)])
    label_smoothing = models.FloatField(null=True, blank=True)
    gamma = models.FloatField(null=True, blank=True)
    orpo_lambda = models.FloatField(null=True, blank=True)
    nu = models.FloatField(null=True, blank=True)
    nll_alpha = models.FloatField(null=True, blank=True)
    learning_rate = models.FloatField(default=5e-5, validators=[MinValueValidator(ABOVE_ZERO)])
    epochs = models.PositiveSmallIntegerField(
        default=2, validators=[MinValueValidator(1), MaxValueValidator(100)]
    )
    pairs_per_step = models.PositiveSmallIntegerField(
        default=8, validators=[MinValueValidator(1), MaxValueValidator(1024)]
    )
    max_length = models.PositiveIntegerField(
        default=2048, validators=[MinValueValidator(64), MaxValueValidator(131072)]
    )
    lora_r = models.PositiveSmallIntegerField(
        default=16, validators=[MinValueValidator(1), MaxValueValidator(256)]
    )
    lora_alpha = models.PositiveSmallIntegerField(
        default=32, validators=[MinValueValidator(1), MaxValueValidator(1024)]
    )
    seed = models.PositiveIntegerField(default=0)
    minimum_labels = models.PositiveIntegerField(
        default=16,
        validators=[MinValueValidator(2)],
        help_text="A round trains only with at least this many usable preferences.",
    )
    training_rules = models.JSONField(
        default=dict,
        blank=True,
        help_text="The rules of training sets (training/training_set/rules.py); what is missing is as usual.",
    )

    def __str__(self) -> str:
        return f"recipe of {self.study}"
