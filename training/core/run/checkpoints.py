"""Checkpoints that are whole or absent: adapter, optimiser, RNG and position, as safetensors with hashes."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from training.core.errors import TrainingError
from training.core.model.loading import trainable_parameters
from training.core.progress import say
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, fsync_file, new_folder, write_json

KEPT = 2


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps taken, seconds spent, and the hashes of its settings and examples."""

    step: int
    seconds: float
    config_sha256: str
    examples_sha256: str


def save_checkpoint(
    run: RunDirectory, *, position: Position, policy: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write checkpoints/step-<n>, which a kill at any moment leaves whole or absent; keep the newest two."""
    for record in (run.metrics, run.margins):
        if record.exists():
            fsync_file(record)
    weights = trainable_parameters(policy)
    with new_folder(run.checkpoints / f"step-{position.step:08d}") as folder:
        save_file({name: _stored(weight) for name, weight in weights.items()}, folder / "adapter.safetensors")
        save_file(_optimizer_tensors(optimizer, names=list(weights)), folder / "optimizer.safetensors")
        save_file(_rng_tensors(), folder / "rng.safetensors")
        write_json(folder / "position.json", value=asdict(position))
    for old in _checkpoints(run)[KEPT:]:
        shutil.rmtree(old)


def load_checkpoint(
    run: RunDirectory, *, start: Position, policy: nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Restore the newest whole checkpoint and return its position, or `start` when there is none.

    A damaged one is reported and the one before it used. Raises TrainingError when config.json or
    examples.jsonl is not what the checkpoint was made with.
    """
    for folder in _checkpoints(run):
        damaged = damaged_file(folder)
        if damaged is not None:
            say(f"checkpoint {folder.name} is damaged ({damaged}); using the one before it")
            continue
        position = Position(**json.loads((folder / "position.json").read_text(encoding="utf-8")))
        _check_same_run(position, start=start)
        _restore(folder, policy=policy, optimizer=optimizer)
        return position
    return start


def _check_same_run(position: Position, *, start: Position) -> None:
    for name in ("config", "examples"):
        if getattr(position, f"{name}_sha256") != getattr(start, f"{name}_sha256"):
            raise TrainingError(
                f"{name} of this run directory changed after step {position.step}; make the change a new run"
            )


def _restore(folder: Path, *, policy: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    weights = trainable_parameters(policy)
    stored = load_file(folder / "adapter.safetensors")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(stored[name])
    moments = load_file(folder / "optimizer.safetensors")
    state = optimizer.state_dict()
    state["state"] = {
        place: {key: moments[f"{name}|{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for place, name in enumerate(weights)
    }
    optimizer.load_state_dict(state)
    _restore_rng(load_file(folder / "rng.safetensors"))


def _optimizer_tensors(optimizer: torch.optim.Optimizer, *, names: list[str]) -> dict[str, torch.Tensor]:
    state: dict[int, dict[str, Any]] = optimizer.state_dict()["state"]
    return {
        f"{names[place]}|{key}": _stored(torch.as_tensor(value))
        for place, moments in state.items()
        for key, value in moments.items()
    }


def _rng_tensors() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _restore_rng(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().contiguous()


def _checkpoints(run: RunDirectory) -> list[Path]:
    """Finished checkpoint folders, newest first; what a killed writer left ends in .tmp."""
    if not run.checkpoints.is_dir():
        return []
    return sorted((path for path in run.checkpoints.iterdir() if path.suffix != ".tmp"), reverse=True)
