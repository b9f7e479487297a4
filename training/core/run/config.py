"""config.json of a run directory, read strictly into frozen dataclasses. Imports nothing heavy."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from training.core.errors import ConfigError

STAGES = ("dpo", "score")
SCHEDULES = ("cosine", "linear", "constant")
DTYPES = ("bfloat16", "float32")
# Each loss with the keys it uses beside its name.
LOSS_KEYS: dict[str, tuple[str, ...]] = {
    "dpo": ("beta",),
    "cdpo": ("beta", "label_smoothing"),
    "ipo": ("beta",),
    "ipo_sum": ("beta",),
    "hinge": ("beta",),
}
# Below this β the policy may run far from the reference within a few steps.
COLLAPSE_BETA = 0.05
_MISSING = object()


@dataclass(frozen=True)
class LoraSettings:
    """The adapter's shape; `target_modules` is "all-linear" or the names of linear layers."""

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: str | tuple[str, ...] = "all-linear"


@dataclass(frozen=True)
class LossSettings:
    """The loss by name and its own parameters; None for a parameter that the loss does not use."""

    name: str = "dpo"
    beta: float = 0.1
    label_smoothing: float | None = None


@dataclass(frozen=True)
class OptimizerSettings:
    """AdamW and its schedule; `pairs_per_step` is the batch of one optimiser step."""

    learning_rate: float = 5e-5
    epochs: int = 1
    pairs_per_step: int = 8
    warmup_ratio: float = 0.1
    schedule: str = "cosine"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0


@dataclass(frozen=True)
class RunConfig:
    """One training or scoring run, as config.json states it."""

    base_model: str
    stage: str = "dpo"
    base_sha256: str | None = None
    parent_adapter: str | None = None
    lora: LoraSettings = field(default_factory=LoraSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    max_length: int = 2048
    dtype: str = "bfloat16"
    seed: int = 0
    checkpoint_every: int = 50

    def as_json(self) -> dict[str, Any]:
        """The object that config.json holds; `parse_config` reads it back to an equal configuration."""
        values = asdict(self)
        values["loss"] = {key: value for key, value in values["loss"].items() if value is not None}
        if not isinstance(self.lora.target_modules, str):
            values["lora"]["target_modules"] = list(self.lora.target_modules)
        return values


def read_config(path: Path) -> RunConfig:
    """Read and check config.json; raises ConfigError with a sentence for the person who wrote it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path} does not exist; a run directory holds config.json and examples.jsonl"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text ({error.reason} at byte {error.start})") from None
    try:
        values = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path.name} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    return parse_config(values)


def parse_config(values: object) -> RunConfig:
    """Check an object of config.json's shape (docs/data-format.md) and return it as a RunConfig.

    Raises ConfigError on unknown keys, wrong types, values out of range and contradictions.
    """
    section = _Section("config", values)
    stage = section.choice("stage", STAGES, default="dpo")
    config = RunConfig(
        stage=stage,
        base_model=section.text("base_model"),
        base_sha256=section.optional_text("base_sha256"),
        parent_adapter=section.optional_text("parent_adapter"),
        lora=_lora(section.section("lora")),
        loss=_loss(section.section("loss")),
        optimizer=_optimizer(section.section("optimizer")),
        max_length=section.integer("max_length", default=2048, least=2, usual="2048"),
        dtype=section.choice("dtype", DTYPES, default="bfloat16"),
        seed=section.integer("seed", default=0, least=0, usual="0"),
        checkpoint_every=section.integer("checkpoint_every", default=50, least=1, usual="50"),
    )
    section.end()
    return config


def config_warnings(config: RunConfig) -> tuple[str, ...]:
    """Settings that are allowed but seldom wise, a sentence each."""
    if config.stage == "dpo" and config.loss.beta < COLLAPSE_BETA:
        return (
            f"β = {config.loss.beta:g} is below {COLLAPSE_BETA:g}: the policy may collapse; 0.1 is usual",
        )
    return ()


def _lora(section: "_Section") -> LoraSettings:
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
            f'lora.target_modules = {_shown(targets)} must be "all-linear" or a list of layer names such as '
            '["q_proj", "v_proj"]'
        )
    for name in targets:
        if name.rpartition(".")[2] in {"lm_head", "embed_tokens", "embed_out", "wte"}:
            raise ConfigError(
                f"lora.target_modules names {name}, which the sampling engine cannot load; "
                "keep to attention and MLP layers"
            )


def _loss(section: "_Section") -> LossSettings:
    name = section.text("name", default="dpo")
    if name not in LOSS_KEYS:
        raise ConfigError(
            f"loss.name = {_shown(name)} is not available; available are {', '.join(LOSS_KEYS)}"
        )
    beta = section.number("beta", default=0.1, above=0, usual="0.1", label="β")
    label_smoothing = None
    if "label_smoothing" in LOSS_KEYS[name]:
        label_smoothing = section.number("label_smoothing", least=0, below=0.5, usual="0.1")
    section.end(context=f"the loss {name} uses {', '.join(LOSS_KEYS[name])}")
    return LossSettings(name=name, beta=beta, label_smoothing=label_smoothing)


def _optimizer(section: "_Section") -> OptimizerSettings:
    settings = OptimizerSettings(
        learning_rate=section.number("learning_rate", default=5e-5, above=0, most=1, usual="5e-5"),
        epochs=section.integer("epochs", default=1, least=1, usual="1 to 3"),
        pairs_per_step=section.integer("pairs_per_step", default=8, least=1, usual="8"),
        warmup_ratio=section.number("warmup_ratio", default=0.1, least=0, below=1, usual="0.1"),
        schedule=section.choice("schedule", SCHEDULES, default="cosine"),
        weight_decay=section.number("weight_decay", default=0.0, least=0, usual="0"),
        max_grad_norm=section.number("max_grad_norm", default=1.0, above=0, usual="1"),
    )
    section.end()
    return settings


class _Section:
    """One JSON object being read: every key is taken once, and what is left over is refused by name."""

    def __init__(self, name: str, values: object) -> None:
        if not isinstance(values, Mapping):
            raise ConfigError(f"{name} = {_shown(values)} must be an object with named settings")
        self.name = name
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, key: str, default: object = _MISSING) -> Any:
        self._known.append(key)
        value = self._left.pop(key, default)
        if value is _MISSING:
            raise ConfigError(f"{self._path(key)} is missing")
        return value

    def section(self, key: str) -> "_Section":
        return _Section(key, self.take(key, {}))

    def text(self, key: str, *, default: object = _MISSING) -> str:
        value = self.take(key, default)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{self._path(key)} = {_shown(value)} must be a text that is not empty")
        return value

    def optional_text(self, key: str) -> str | None:
        return self.take(key, None) if self._left.get(key) is None else self.text(key)

    def choice(self, key: str, choices: tuple[str, ...], *, default: str) -> str:
        value = self.take(key, default)
        if value not in choices:
            raise ConfigError(
                f"{self._path(key)} = {_shown(value)} is not available; available are {', '.join(choices)}"
            )
        return str(value)

    def integer(self, key: str, *, default: int, least: int, most: float = math.inf, usual: str = "") -> int:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{self._path(key)} = {_shown(value)} must be a whole number; {usual} is usual")
        self._check_range(key, value, least=least, most=most, usual=usual)
        return value

    def number(
        self,
        key: str,
        *,
        default: object = _MISSING,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
        usual: str = "",
        label: str | None = None,
    ) -> float:
        value = self.take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{label or self._path(key)} = {_shown(value)} must be a finite number")
        self._check_range(
            key, value, least=least, above=above, below=below, most=most, usual=usual, label=label
        )
        return float(value)

    def end(self, *, context: str = "") -> None:
        if self._left:
            known = context or f"{self.name} knows {', '.join(self._known)}"
            raise ConfigError(f"{self._path(min(self._left))} is not a setting here; {known}")

    def _check_range(
        self,
        key: str,
        value: float,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        most: float = math.inf,
        usual: str = "",
        label: str | None = None,
    ) -> None:
        bounds = (
            (value >= least, f"at least {least:g}"),
            (value > above, f"above {above:g}"),
            (value < below, f"below {below:g}"),
            (value <= most, f"at most {most:g}"),
        )
        for holds, wanted in bounds:
            if not holds:
                remedy = f"; {usual} is usual" if usual else ""
                raise ConfigError(f"{label or self._path(key)} = {value:g} must be {wanted}{remedy}")

    def _path(self, key: str) -> str:
        return key if self.name == "config" else f"{self.name}.{key}"


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse_constant(name: str) -> NoReturn:
    raise ConfigError(f"config.json holds {name}, which is not a number that a setting can have")
