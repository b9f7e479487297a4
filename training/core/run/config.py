"""config.json of a run directory, read strictly into frozen dataclasses. Imports nothing heavy."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.core.errors import ConfigError
from training.core.run.config_reading import Section, read_json_object, shown

STAGES = ("dpo", "sft", "score")
TRAINABLE = ("lora", "full")
SCHEDULES = ("cosine", "linear", "constant")
DTYPES = ("bfloat16", "float32")
OVERLONG = ("leave_out", "cut")
# Each loss with the keys it uses beside its name.
LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "dpo": ("beta", "nll_alpha"),
    "cdpo": ("beta", "label_smoothing", "nll_alpha"),
    "robust": ("beta", "label_smoothing", "nll_alpha"),
    "ipo": ("beta", "nll_alpha"),
    "ipo_sum": ("beta", "nll_alpha"),
    "hinge": ("beta", "nll_alpha"),
    "dpo_norm": ("beta", "nll_alpha"),
    "simpo": ("beta", "gamma", "nll_alpha"),
    "orpo": ("lambda",),
    "kto": ("beta", "desirable_weight", "undesirable_weight"),
    "rao_kupper": ("beta", "nu", "nll_alpha"),
    "davidson": ("beta", "nu", "nll_alpha"),
}
# An example's p other than 1, and an example with "tie": true, need one of these.
SOFT_LABEL_LOSSES = ("dpo", "rao_kupper", "davidson")
TIE_LOSSES = ("rao_kupper", "davidson")
REFERENCE_FREE = ("simpo", "orpo")
# β where a loss speaks of per-token means instead of sums.
USUAL_BETA = {"dpo_norm": 5.0, "simpo": 2.0}
# ν that says "no ties at all"; the usual one is 3 for Rao–Kupper and 1 for Davidson.
TIELESS_NU = {"rao_kupper": 1.0, "davidson": 0.0}
USUAL_NU = {"rao_kupper": 3.0, "davidson": 1.0}
USUAL_LEARNING_RATE = {
    ("dpo", "lora"): 5e-5,
    ("dpo", "full"): 1e-6,
    ("sft", "lora"): 2e-4,
    ("sft", "full"): 2e-5,
}
# Below this β the policy may run far from the reference within a few steps.
COLLAPSE_BETA = 0.05
# KTO's reference point z is a mean over the examples of a step.
KTO_BATCH = 4
# Above this learning rate full fine-tuning on preferences usually breaks the model.
FULL_LEARNING_RATE = 1e-5
# Above this one an adapter learns in steps so large that runs on preferences seldom end well.
LORA_LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's shape; `target_modules` is "all-linear" or the names of linear layers."""

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True)
class LossSettings:
    """The loss by name and its own parameters; None for a parameter that the loss does not use.

    `lambda_` is the key "lambda" of config.json. ORPO has no β: its `beta` is left at the default.
    """

    name: str = "dpo"
    beta: float = 0.1
    label_smoothing: float | None = None
    gamma: float | None = None
    lambda_: float | None = None
    nu: float | None = None
    nll_alpha: float | None = None
    desirable_weight: float | None = None
    undesirable_weight: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The object under "loss": the name and the keys that this loss uses and that are set."""
        values = {key.rstrip("_"): value for key, value in asdict(self).items()}
        used = {key: values[key] for key in LOSS_KEYS[self.name] if values[key] is not None}
        return {"name": self.name, **used}


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its schedule; `pairs_per_step` is the batch of one optimiser step.

    `pairs_per_pass` of them share a forward and backward pass (None: the trainer chooses); the gradient of a
    step is the same whatever it is.
    """

    learning_rate: float = 5e-5
    epochs: int = 1
    pairs_per_step: int = 8
    pairs_per_pass: int | None = None
    warmup_ratio: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class EvaluationSettings:
    """Looking at held-out examples: every so many steps (None: after each epoch), and what follows.

    `share` of the prompts is held out unless the run directory has a heldout.jsonl. Training stops after
    `patience` evaluations without a better one (None: never); with `keep_best` the result is the policy of
    the best evaluation, else the last one. Better is a higher preference accuracy, in stage sft a lower loss.
    """

    share: float = 0.0
    every: int | None = None
    patience: int | None = None
    keep_best: bool = False


@dataclass(frozen=True)
class RunConfig:
    """One training or scoring run, as config.json states it; `lora` is not used when training in full."""

    base_model: str
    stage: str = "dpo"
    base_sha256: str | None = None
    parent_adapter: str | None = None
    trainable: str = "lora"
    lora: LoraSettings = field(default_factory=LoraSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    gradient_checkpointing: bool = False
    max_length: int = 2048
    overlong: str = "leave_out"
    dtype: str = "bfloat16"
    seed: int = 0
    checkpoint_every: int = 50
    ledger: str | None = None
    chunk_tokens: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that config.json holds; `parse_config` reads it back to an equal configuration."""
        values = asdict(self)
        values["loss"] = self.loss.as_json()
        if not isinstance(self.lora.target_modules, str):
            values["lora"]["target_modules"] = list(self.lora.target_modules)
        for key in _refused_keys(stage=self.stage, trainable=self.trainable):
            del values[key]
        return values


def read_config(path: Path) -> RunConfig:
    """Read and check config.json; raises ConfigError with a sentence for the person who wrote it."""
    return parse_config(read_json_object(path))


def parse_config(values: object) -> RunConfig:
    """Check an object of config.json's shape (docs/data-format.md) and return it as a RunConfig.

    Raises ConfigError on unknown keys, wrong types, values out of range and contradictions.
    """
    section = Section("config", values)
    stage = section.choice("stage", STAGES, default="dpo")
    trainable = section.choice("trainable", TRAINABLE, default="lora")
    _check_contradictions(section, stage=stage, trainable=trainable)
    config = RunConfig(
        stage=stage,
        trainable=trainable,
        base_model=section.text("base_model"),
        base_sha256=section.optional_text("base_sha256"),
        parent_adapter=section.optional_text("parent_adapter"),
        lora=_lora(section.section("lora")),
        loss=_loss(section.section("loss")),
        optimizer=_optimizer(
            section.section("optimizer"), learning_rate=USUAL_LEARNING_RATE.get((stage, trainable), 5e-5)
        ),
        evaluation=_evaluation(section.section("evaluation")),
        gradient_checkpointing=section.boolean("gradient_checkpointing", default=False),
        max_length=section.integer("max_length", default=2048, least=2, usual="2048"),
        overlong=section.choice("overlong", OVERLONG, default="leave_out"),
        dtype=section.choice("dtype", DTYPES, default="bfloat16"),
        seed=section.integer("seed", default=0, least=0, usual="0"),
        checkpoint_every=section.integer("checkpoint_every", default=50, least=1, usual="50"),
        ledger=section.optional_text("ledger"),
        chunk_tokens=section.optional_integer("chunk_tokens", least=1, usual="null (the trainer chooses)"),
    )
    section.end()
    return config


def config_warnings(config: RunConfig) -> tuple[str, ...]:
    """Settings that are allowed but seldom wise, a sentence each."""
    if config.stage != "dpo":
        return ()
    found = []
    name, beta, rate = config.loss.name, config.loss.beta, config.optimizer.learning_rate
    if name in USUAL_BETA:
        if beta < USUAL_BETA[name] / 10:
            found.append(
                f"β = {beta:g} is small for {name}, which compares means per token; "
                f"{USUAL_BETA[name]:g} is usual"
            )
    elif name != "orpo" and beta < COLLAPSE_BETA:
        found.append(f"β = {beta:g} is below {COLLAPSE_BETA:g}: the policy may collapse; 0.1 is usual")
    if name == "kto" and config.optimizer.pairs_per_step < KTO_BATCH:
        found.append(
            f"optimizer.pairs_per_step = {config.optimizer.pairs_per_step} leaves little to estimate KTO's z "
            "from; 8 or more is usual"
        )
    if config.trainable == "full" and rate > FULL_LEARNING_RATE:
        found.append(
            f"optimizer.learning_rate = {rate:g} is high for full fine-tuning on preferences; 1e-6 is usual"
        )
    if config.trainable == "lora" and rate > LORA_LEARNING_RATE:
        found.append(
            f"Learning rate = {rate:g} is high for LoRA on preferences: above {LORA_LEARNING_RATE:g} single "
            "steps move the policy so far that the loss diverges, or chosen responses become as unlikely as "
            "rejected ones; 5e-6 to 5e-4 is usual"
        )
    return tuple(found)


def _refused_keys(*, stage: str, trainable: str) -> dict[str, str]:
    """The keys that contradict the stage or what is trained, each with what to do."""
    refused = {}
    if stage == "sft":
        refused["loss"] = (
            "stage sft has one loss, the negative log-likelihood of the completions; leave it out"
        )
        refused["ledger"] = "stage sft has no reference; leave it out"
        refused["parent_adapter"] = "stage sft starts from base_model; merge the adapter into a base first"
    if trainable == "full":
        refused["lora"] = (
            'trainable "full" changes the base itself; leave lora out or set trainable to "lora"'
        )
        refused["parent_adapter"] = (
            'trainable "full" starts from base_model; leave parent_adapter out or set trainable to "lora"'
        )
    return refused


def _check_contradictions(section: Section, *, stage: str, trainable: str) -> None:
    if stage == "score" and trainable == "full":
        raise ConfigError('trainable = "full" trains, stage score does not; leave trainable out')
    for key, remedy in _refused_keys(stage=stage, trainable=trainable).items():
        if section.given(key):
            raise ConfigError(f"{key} is not a setting here: {remedy}")


def _lora(section: Section) -> LoraSettings:
    targets = section.take("target_modules", "all-linear")
    if isinstance(targets, list):
        targets = tuple(targets)
    _check_targets(targets)
    dropout = section.number("dropout", default=0.0)
    if dropout != 0:
        raise ConfigError(f"lora.dropout = {dropout:g} must be 0: dropout would add noise to the log-ratios")
    settings = LoraSettings(
        r=section.integer("r", default=16, least=1, most=512, usual="16"),
        alpha=section.number("alpha", default=32.0, above=0, usual="twice r"),
        dropout=dropout,
        target_modules=targets,
    )
    section.end()
    return settings


def _check_targets(targets: object) -> None:
    if targets == "all-linear":
        return
    if not isinstance(targets, tuple) or not targets or not all(isinstance(name, str) for name in targets):
        raise ConfigError(
            f'lora.target_modules = {shown(targets)} must be "all-linear" or a list of layer names such as '
            '["q_proj", "v_proj"]'
        )
    for name in targets:
        if name.rpartition(".")[2] in {"lm_head", "embed_tokens", "embed_out", "wte"}:
            raise ConfigError(
                f"lora.target_modules names {name}, which the sampling engine cannot load; "
                "keep to attention and MLP layers"
            )


def _loss(section: Section) -> LossSettings:
    name = section.text("name", default="dpo")
    if name not in LOSS_KEYS:
        raise ConfigError(f"loss.name = {shown(name)} is not available; available are {', '.join(LOSS_KEYS)}")
    values = {
        ("lambda_" if key == "lambda" else key): _loss_value(section, key=key, loss=name)
        for key in LOSS_KEYS[name]
    }
    section.end(context=f"the loss {name} uses {', '.join(LOSS_KEYS[name])}")
    return LossSettings(name=name, **values)


def _loss_value(section: Section, *, key: str, loss: str) -> Any:
    match key:
        case "beta":
            usual = USUAL_BETA.get(loss, 0.1)
            return section.number(key, default=usual, above=0, usual=f"{usual:g}", label="β")
        case "label_smoothing":
            return section.number(key, least=0, below=0.5, usual="0.1")
        case "gamma":
            return section.number(key, default=1.0, least=0, usual="half of β")
        case "lambda":
            return section.number(key, default=0.1, above=0, usual="0.1")
        case "nu":
            usual = USUAL_NU[loss]
            return section.number(key, default=usual, least=TIELESS_NU[loss], usual=f"{usual:g}")
        case "nll_alpha":
            if not section.given(key):
                return section.take(key, None)
            return section.number(key, above=0, usual="0.2 to 1")
    return section.number(key, default=1.0, above=0, usual="1")


def _optimizer(section: Section, *, learning_rate: float) -> OptimizerSettings:
    settings = OptimizerSettings(
        learning_rate=section.number(
            "learning_rate", default=learning_rate, above=0, most=1, usual=_plain(learning_rate)
        ),
        epochs=section.integer("epochs", default=1, least=1, usual="1 to 3"),
        pairs_per_step=section.integer("pairs_per_step", default=8, least=1, usual="8"),
        pairs_per_pass=section.optional_integer(
            "pairs_per_pass", least=1, usual="null (the trainer chooses)"
        ),
        warmup_ratio=section.number("warmup_ratio", default=0.1, least=0, below=1, usual="0.1"),
        schedule=section.choice("schedule", SCHEDULES, default="cosine"),
        weight_decay=section.number("weight_decay", default=0.0, least=0, usual="0"),
        max_grad_norm=section.number("max_grad_norm", default=1.0, above=0, usual="1"),
    )
    section.end()
    return settings


def _evaluation(section: Section) -> EvaluationSettings:
    settings = EvaluationSettings(
        share=section.number("share", default=0.0, least=0, most=0.5, usual="0.1"),
        every=section.optional_integer("every", least=1, usual="null (after each epoch)"),
        patience=section.optional_integer("patience", least=1, usual="3"),
        keep_best=section.boolean("keep_best", default=False),
    )
    section.end()
    return settings


def _plain(value: float) -> str:
    """A learning rate as people write it: 5e-5."""
    return f"{value:.0e}".replace("e-0", "e-")
