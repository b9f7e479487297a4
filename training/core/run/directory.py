"""The run directory: its file names, the examples in it, and how one is frozen. Imports nothing heavy."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from training.core.errors import TrainingError
from training.core.run.config import RunConfig
from training.core.run.files import damaged_file, sha256_of_file, write_json, write_json_lines

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
    def heldout(self) -> Path:
        return self.path / "heldout.jsonl"

    @property
    def receipt(self) -> Path:
        return self.path / "receipt.json"

    @property
    def contradictions(self) -> Path:
        return self.path / "contradictions.jsonl"

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
    def model(self) -> Path:
        return self.path / "model"

    @property
    def trained(self) -> Path:
        return self.path / "trained.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def error(self) -> Path:
        return self.path / "error.json"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def is_trained(self) -> bool:
        """Whether adapter/ or model/ is there and whole; what the last look adds to it may be missing."""
        return self.trained.exists() and any(
            damaged_file(folder) is None for folder in (self.adapter, self.model)
        )


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
class LeftOut:
    """An example that was not used: its line in examples.jsonl (from 1), its id if it has one, and why."""

    line: int
    id: str | None
    reason: str
    detail: str


@dataclass(frozen=True)
class Receipt:
    """What went into the run and what was left out; `steps` is the number of optimiser steps planned.

    `heldout` of the used examples are not trained on but evaluated on. `retokenised` had a text instead of
    stored token ids, `changed` of them have other tokens than the chat template gives prompt and completion
    together, `cut` lost the end of a completion. `remarks` name these, and pairs that came twice, line by
    line.
    """

    examples: int
    used: int
    steps: int
    left_out: tuple[LeftOut, ...]
    heldout: int = 0
    retokenised: int = 0
    changed: int = 0
    cut: int = 0
    remarks: tuple[LeftOut, ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Receipt":
        """Read back receipt.json."""
        named = {
            key: tuple(LeftOut(**entry) for entry in values.get(key, ())) for key in ("left_out", "remarks")
        }
        return cls(**{**values, **named})


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
