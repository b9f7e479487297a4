"""The run directory: its file names, the records in them, and how one is frozen. Imports nothing heavy."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.core.errors import TrainingError
from training.core.run.config import RunConfig
from training.core.run.files import read_json_lines, sha256_of_file, write_json, write_json_lines

Messages = tuple[dict[str, Any], ...]
TokenIds = tuple[int, ...]


@dataclass(frozen=True)
class RunDirectory:
    """The files of one run; only config.json and examples.jsonl are there before it starts."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def examples(self) -> Path:
        return self.path / "examples.jsonl"

    @property
    def receipt(self) -> Path:
        return self.path / "receipt.json"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def margins(self) -> Path:
        return self.path / "margins.jsonl"

    @property
    def scores(self) -> Path:
        return self.path / "scores.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def error(self) -> Path:
        return self.path / "error.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"


@dataclass(frozen=True)
class DpoExample:
    """One preference in TRL's conversational format; token ids, where given, are trained on as they are.

    `p` is the probability that chosen is the better one (soft label); `weight` multiplies the pair's loss.
    """

    id: str
    prompt: Messages
    chosen: Messages
    rejected: Messages
    prompt_token_ids: TokenIds | None = None
    chosen_token_ids: TokenIds | None = None
    rejected_token_ids: TokenIds | None = None
    p: float = 1.0
    weight: float = 1.0
    tie: bool = False

    def as_json(self) -> dict[str, Any]:
        """The object of one line of examples.jsonl; defaults and absent token ids are left out."""
        left_out = {"p": 1.0, "weight": 1.0, "tie": False}
        return {
            key: value
            for key, value in asdict(self).items()
            if value is not None and (key not in left_out or value != left_out[key])
        }


@dataclass(frozen=True)
class ScoreExample:
    """A prompt and completions to score; `completions_token_ids` has an entry (or None) for each."""

    id: str
    prompt: Messages
    completions: tuple[Messages, ...]
    prompt_token_ids: TokenIds | None = None
    completions_token_ids: tuple[TokenIds | None, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """The object of one line of examples.jsonl; absent token ids are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class StepMetrics:
    """One optimiser step: figures of its batch before the update, means over pairs; log-probs in nats."""

    step: int
    epoch: float
    loss: float
    rewards_chosen: float
    rewards_rejected: float
    rewards_accuracies: float
    rewards_margins: float
    logps_chosen: float
    logps_rejected: float
    grad_norm: float
    learning_rate: float
    tokens_per_second: float
    time: float

    def as_json(self) -> dict[str, Any]:
        """The object of one line of metrics.jsonl, under TRL's names."""
        return {_metric_name(key): value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "StepMetrics":
        """Read back a line of metrics.jsonl."""
        return cls(**{key: values[_metric_name(key)] for key in cls.__dataclass_fields__})


@dataclass(frozen=True)
class MarginRecord:
    """One example in one epoch: β·Δ when the epoch reached it, and at its next look (None until there is
    one).

    `h_chosen` and `h_rejected` are log π_policy − log π_reference per completion token, at the first look.
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
class LeftOut:
    """An example that was not used: its line in examples.jsonl (from 1), its id if it has one, and why."""

    line: int
    id: str | None
    reason: str
    detail: str


@dataclass(frozen=True)
class Receipt:
    """What went into the run and what was left out; `steps` is the number of optimiser steps planned."""

    examples: int
    used: int
    steps: int
    left_out: tuple[LeftOut, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Receipt":
        """Read back receipt.json."""
        left_out = tuple(LeftOut(**entry) for entry in values["left_out"])
        return cls(examples=values["examples"], used=values["used"], steps=values["steps"], left_out=left_out)


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

    For stage dpo, accuracy and margin are over all used pairs under the final policy; `losses` are of the
    first and the last step. Stage score leaves the training figures None.
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
    parent_sha256: str | None = None
    adapter_sha256: str | None = None
    train_accuracy: float | None = None
    train_margin: float | None = None
    loss_first: float | None = None
    loss_last: float | None = None
    pairs_per_second: float | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "RunResult":
        """Read back result.json."""
        return cls(**values)


def write_run_directory(
    directory: Path, *, config: RunConfig, examples: Iterable[DpoExample] | Iterable[ScoreExample]
) -> str:
    """Freeze a run: write examples.jsonl, then config.json, into a new folder; returns the examples' sha256.

    A folder with config.json is complete. Raises TrainingError when the folder already has one.
    """
    run = RunDirectory(directory)
    if run.config.exists():
        raise TrainingError(f"{directory} already holds a run; freeze each run into a folder of its own")
    directory.mkdir(parents=True, exist_ok=True)
    write_json_lines(run.examples, values=(example.as_json() for example in examples))
    write_json(run.config, value=config.as_json())
    return sha256_of_file(run.examples)


def read_metrics(path: Path) -> Iterator[StepMetrics]:
    """The steps written so far; safe while the trainer writes."""
    return (StepMetrics.from_json(values) for values in read_json_lines(path))


def read_scores(path: Path) -> Iterator[ScoreRecord]:
    """The scores written so far; safe while the trainer writes."""
    return (ScoreRecord(**values) for values in read_json_lines(path))


def read_margins(path: Path) -> Iterator[MarginRecord]:
    """Margins and per-token log-ratios per example and epoch."""
    for values in read_json_lines(path):
        values.update({key: tuple(values[key]) for key in ("h_chosen", "h_rejected")})
        yield MarginRecord(**values)


def _metric_name(field_name: str) -> str:
    for group in ("rewards", "logps"):
        if field_name.startswith(f"{group}_"):
            return f"{group}/{field_name.removeprefix(f'{group}_')}"
    return field_name
