"""The records that a run leaves in its directory: steps, evaluations, margins, scores, the result. No
torch.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from training.core.run.files import read_json_lines

# The groups of figures whose names in a file have a slash: rewards_chosen is "rewards/chosen" there.
GROUPS = ("rewards", "logps", "log_ratio_per_token")
EVALUATION = "eval_"


@dataclass(frozen=True)
class Figures:
    """What some examples look like under the policy, as means over them; log-probs in nats.

    None stands where nothing is known: chosen or rejected figures of unpaired examples of one kind,
    log-ratios under a loss without a reference, a correlation of fewer than three pairs.
    """

    loss: float
    rewards_chosen: float | None
    rewards_rejected: float | None
    rewards_accuracies: float | None
    rewards_margins: float | None
    rewards_contradicted: float | None
    logps_chosen: float | None
    logps_rejected: float | None
    log_ratio_per_token_chosen: float | None
    log_ratio_per_token_rejected: float | None
    absolute_log_ratio_per_token: float | None
    length_margin_correlation: float | None


@dataclass(frozen=True)
class StepMetrics(Figures):
    """One optimiser step: figures of its batch before the update, and the update itself.

    `examples` is the size of the batch, None in files of versions that did not write it.
    """

    step: int
    epoch: float
    examples: int | None
    grad_norm: float
    grad_clipped: float
    learning_rate: float
    tokens_per_second: float
    time: float

    def as_json(self) -> dict[str, Any]:
        """The object of one line of metrics.jsonl, under TRL's names where TRL has the figure."""
        return _named(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StepMetrics":
        """Read back a line of metrics.jsonl."""
        named: dict[str, Any] = {field.name: values.get(_metric_name(field.name)) for field in fields(cls)}
        return cls(**named)


@dataclass(frozen=True)
class Evaluation(Figures):
    """The figures of the held-out examples after `step` steps; `examples` is how many there are."""

    step: int
    epoch: float
    examples: int
    time: float

    def as_json(self) -> dict[str, Any]:
        """The object of one line of metrics.jsonl: TRL's names with `eval_` before them, and step and
        epoch.
        """
        plain = {"step": self.step, "epoch": self.epoch, "time": self.time}
        return plain | {
            f"{EVALUATION}{key}": value for key, value in _named(self).items() if key not in plain
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Evaluation":
        """Read back an evaluation's line of metrics.jsonl."""
        plain = {key.removeprefix(EVALUATION): value for key, value in values.items()}
        named: dict[str, Any] = {field.name: plain.get(_metric_name(field.name)) for field in fields(cls)}
        return cls(**named)


@dataclass(frozen=True)
class DemonstrationMetrics:
    """One optimiser step of stage sft: its batch before the update, and the update itself.

    `loss` is the mean negative log-likelihood (nats) of the batch's completion tokens, `mean_token_accuracy`
    the share of them that were the likeliest ones. `examples` is the size of the batch, None in files of
    versions that did not write it.
    """

    step: int
    epoch: float
    loss: float
    mean_token_accuracy: float
    grad_norm: float
    learning_rate: float
    tokens_per_second: float
    time: float
    examples: int | None = None


@dataclass(frozen=True)
class DemonstrationEvaluation:
    """The held-out demonstrations of stage sft after `step` steps; `examples` is how many there are.

    `loss` is the mean negative log-likelihood (nats) of their completion tokens, `perplexity` its exp.
    """

    step: int
    epoch: float
    loss: float
    perplexity: float
    mean_token_accuracy: float
    examples: int
    time: float

    def as_json(self) -> dict[str, Any]:
        """The object of one line of metrics.jsonl: `eval_` before the names, but for step, epoch and time."""
        plain = ("step", "epoch", "time")
        return {key if key in plain else f"{EVALUATION}{key}": value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DemonstrationEvaluation":
        """Read back an evaluation's line of metrics.jsonl."""
        return cls(**{key.removeprefix(EVALUATION): value for key, value in values.items()})


@dataclass(frozen=True)
class MarginRecord:
    """One example's margin at a look, and at its next one (None until there is one).

    Epoch 0, step 0 is the look before the first step, whose next one is after the last; epoch n is when that
    epoch reached the example. `h_chosen` and `h_rejected` are log π_policy − log π_reference per completion
    token at the first look, empty where they are not known or zero throughout.
    """

    id: str
    epoch: int
    step: int
    margin_before: float
    margin_after: float | None
    h_chosen: tuple[float, ...]
    h_rejected: tuple[float, ...]

    def as_json(self) -> dict[str, Any]:
        """The object of one line of margins.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class ScoreRecord:
    """Summed log-probs (nats) of one completion under the policy and the reference."""

    id: str
    index: int
    tokens: int
    policy_logp: float
    reference_logp: float


@dataclass(frozen=True)
class RunResult:
    """The final figures of a run; a run directory without them is unfinished.

    Stage dpo: `train_*` and the figures after them are over all used examples under the final policy (None in
    trained.json, which is written before anybody has looked), `loss_first` and `loss_last` of the first and
    the last step, `loss_start` and `loss_end` means over the examples of the first and the last `loss_steps`
    steps, `heldout` the best (or last) evaluation. Stage score: `log_ratio` is the mean of
    log π_policy − log π_reference over the completions, an estimate of KL(policy‖reference) when they were
    sampled from the policy. What a stage does not have is None. `used` examples include those of them that
    were held out by prompt; `heldout_sha256` is of heldout.jsonl, where there is one. `kept_step` is whose
    weights the result has, `steps` were taken of `planned_steps`.
    """

    stage: str
    examples: int
    used: int
    steps: int
    seconds: float
    base_sha256: str
    examples_sha256: str
    config_sha256: str
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()
    parent_sha256: str | None = None
    adapter_sha256: str | None = None
    model_sha256: str | None = None
    train_accuracy: float | None = None
    train_margin: float | None = None
    train_margin_before: float | None = None
    train_contradicted: float | None = None
    log_ratio_per_token_chosen: float | None = None
    log_ratio_per_token_rejected: float | None = None
    absolute_log_ratio_per_token: float | None = None
    length_margin_correlation: float | None = None
    truncated_share: float | None = None
    clipped_share: float | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    loss_start: float | None = None
    loss_end: float | None = None
    loss_steps: int | None = None
    pairs_per_second: float | None = None
    heldout: dict[str, Any] | None = None
    stopped_early: bool | None = None
    kept_step: int | None = None
    planned_steps: int | None = None
    heldout_sha256: str | None = None
    log_ratio: float | None = None
    log_ratio_per_token: float | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunResult":
        """Read back result.json; figures that only other versions write are left out."""
        known = {field.name: values[field.name] for field in fields(cls) if field.name in values}
        return cls(**{**known, "warnings": tuple(values.get("warnings", ()))})


def read_result(path: Path) -> RunResult:
    """Read back result.json, or trained.json."""
    return RunResult.from_json(json.loads(path.read_text(encoding="utf-8")))


def read_metrics(path: Path) -> Iterator[StepMetrics]:
    """The steps written so far; safe while the trainer writes."""
    return (StepMetrics.from_json(values) for values in read_json_lines(path) if not _is_evaluation(values))


def read_demonstration_metrics(path: Path) -> Iterator[DemonstrationMetrics]:
    """The steps of stage sft written so far; safe while the trainer writes."""
    return (DemonstrationMetrics(**values) for values in read_json_lines(path) if not _is_evaluation(values))


def read_demonstration_evaluations(path: Path) -> Iterator[DemonstrationEvaluation]:
    """The evaluations on held-out demonstrations written so far, from the same file as the steps."""
    lines = read_json_lines(path)
    return (DemonstrationEvaluation.from_json(values) for values in lines if _is_evaluation(values))


def read_evaluations(path: Path) -> Iterator[Evaluation]:
    """The evaluations on held-out examples written so far, from the same file as the steps."""
    return (Evaluation.from_json(values) for values in read_json_lines(path) if _is_evaluation(values))


def read_scores(path: Path) -> Iterator[ScoreRecord]:
    """The scores written so far; safe while the trainer writes."""
    return (ScoreRecord(**values) for values in read_json_lines(path))


def read_margins(path: Path) -> Iterator[MarginRecord]:
    """Margins and per-token log-ratios per example and look."""
    for values in read_json_lines(path):
        values.update({key: tuple(values[key]) for key in ("h_chosen", "h_rejected")})
        yield MarginRecord(**values)


def _is_evaluation(values: dict[str, Any]) -> bool:
    return f"{EVALUATION}loss" in values


def _named(record: Figures) -> dict[str, Any]:
    """The record with step and epoch first, under the names that a file has."""
    values = asdict(record)
    first = {key: values.pop(key) for key in ("step", "epoch")}
    return {_metric_name(key): value for key, value in (first | values).items()}


def _metric_name(field_name: str) -> str:
    for group in GROUPS:
        if field_name.startswith(f"{group}_"):
            return f"{group}/{field_name.removeprefix(f'{group}_')}"
    return field_name
