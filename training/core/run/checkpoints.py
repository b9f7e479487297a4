"""Checkpoints that are whole or absent: weights, optimiser, RNG and position, as safetensors with hashes."""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.core.errors import TrainingError
from training.core.progress import say
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, fsync_file, new_folder, sha256_of_file, write_json
from training.core.run.weights import TrainedWeights

KEPT = 2
STEP, BEST = "step-", "best-"
INPUTS = {"config_sha256": "config", "examples_sha256": "examples", "heldout_sha256": "heldout"}


@dataclass(frozen=True)
class Position:
    """Where a run stands: steps taken, seconds spent, and the hashes of its settings and examples."""

    step: int
    seconds: float
    config_sha256: str
    examples_sha256: str
    heldout_sha256: str | None = None


def start_of(run: RunDirectory) -> Position:
    """The position before the first step."""
    return Position(
        step=0,
        seconds=0.0,
        config_sha256=sha256_of_file(run.config),
        examples_sha256=sha256_of_file(run.examples),
        heldout_sha256=sha256_of_file(run.heldout) if run.heldout.exists() else None,
    )


def save_checkpoint(
    run: RunDirectory, *, position: Position, weights: TrainedWeights, optimizer: torch.optim.Optimizer
) -> None:
    """Write checkpoints/step-<n>, which a kill at any moment leaves whole or absent; keep the newest two.

    One that is there already stays: the same step of the same run has the same weights.
    """
    place = run.checkpoints / f"{STEP}{position.step:08d}"
    if place.exists() and damaged_file(place) is None:
        return
    for record in (run.metrics, run.margins):
        if record.exists():
            fsync_file(record)
    with new_folder(place) as folder:
        save_file(_stored_weights(weights), folder / "weights.safetensors")
        save_file(
            _optimizer_tensors(optimizer, names=list(weights.masters)), folder / "optimizer.safetensors"
        )
        save_file(_rng_tensors(), folder / "rng.safetensors")
        write_json(folder / "position.json", value=asdict(position))
    for old in _folders(run, prefix=STEP)[KEPT:]:
        shutil.rmtree(old)
    _forget_old_bests(run)


def load_checkpoint(
    run: RunDirectory, *, start: Position, weights: TrainedWeights, optimizer: torch.optim.Optimizer
) -> Position:
    """Restore the newest whole checkpoint and return its position, or `start` when there is none.

    A damaged one is reported and the one before it used. Raises TrainingError when config.json,
    examples.jsonl or heldout.jsonl is not what the checkpoint was made with.
    """
    for folder in _folders(run, prefix=STEP):
        damaged = damaged_file(folder)
        if damaged is not None:
            say(f"checkpoint {folder.name} is damaged ({damaged}); using the one before it")
            continue
        position = Position(**json.loads((folder / "position.json").read_text(encoding="utf-8")))
        _check_same_run(position, start=start)
        _restore(folder, weights=weights, optimizer=optimizer)
        return position
    return start


def save_best(run: RunDirectory, *, step: int, weights: TrainedWeights) -> None:
    """Write checkpoints/best-<n>, the weights of the best evaluation so far.

    The one before it stays until checkpoints have come after this one: a run that goes on from an earlier
    checkpoint on another machine, or a GPU, may not find the same evaluation the best.
    """
    with new_folder(run.checkpoints / f"{BEST}{step:08d}") as folder:
        save_file(_stored_weights(weights), folder / "weights.safetensors")


def forget_later_bests(run: RunDirectory, *, step: int) -> None:
    """Remove the best weights of evaluations after `step`: a run that goes on from there evaluates anew."""
    for folder in _folders(run, prefix=BEST):
        if _step_of(folder) > step:
            shutil.rmtree(folder)


def load_best(run: RunDirectory, *, step: int, weights: TrainedWeights) -> bool:
    """Restore the weights of the best evaluation; False when they are damaged or gone."""
    folder = run.checkpoints / f"{BEST}{step:08d}"
    if damaged_file(folder) is not None:
        return False
    weights.restore(load_file(folder / "weights.safetensors"))
    return True


def _forget_old_bests(run: RunDirectory) -> None:
    """Keep the newest best weights, and those that were the newest at each checkpoint that is kept."""
    bests = _folders(run, prefix=BEST)
    wanted = set(bests[:1])
    for checkpoint in _folders(run, prefix=STEP):
        until = [best for best in bests if _step_of(best) <= _step_of(checkpoint)]
        wanted.update(until[:1])
    for best in bests:
        if best not in wanted:
            shutil.rmtree(best)


def _step_of(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def _check_same_run(position: Position, *, start: Position) -> None:
    for name, called in INPUTS.items():
        if getattr(position, name) != getattr(start, name):
            raise TrainingError(
                f"{called} of this run directory changed after step {position.step}; make the change a "
                "new run"
            )


def _restore(folder: Path, *, weights: TrainedWeights, optimizer: torch.optim.Optimizer) -> None:
    weights.restore(load_file(folder / "weights.safetensors"))
    moments = load_file(folder / "optimizer.safetensors")
    state = optimizer.state_dict()
    state["state"] = {
        place: {key: moments[f"{name}|{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        for place, name in enumerate(weights.masters)
        if f"{name}|step" in moments
    }
    optimizer.load_state_dict(state)
    _restore_rng(load_file(folder / "rng.safetensors"))


def _stored_weights(weights: TrainedWeights) -> dict[str, torch.Tensor]:
    return {name: _stored(master) for name, master in weights.masters.items()}


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


def _folders(run: RunDirectory, *, prefix: str) -> list[Path]:
    """Finished folders of a kind, newest first; what a killed writer left ends in .tmp."""
    if not run.checkpoints.is_dir():
        return []
    found = (path for path in run.checkpoints.iterdir() if path.name.startswith(prefix))
    return sorted((path for path in found if path.suffix != ".tmp"), reverse=True)
