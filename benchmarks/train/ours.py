"""Our side: one run of `python -m training.core`, timed from its own records."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.train.data import Pair

# The run in a process of its own, and then what only that process knows: its peak memory.
COMMAND = """
import json, resource, sys
from training.core.__main__ import main
code = main()
print(json.dumps({"peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
sys.exit(code)
"""


def write_run(
    folder: Path,
    *,
    model: Path,
    pairs: Sequence[Pair],
    ledger: Path,
    learning_rate: float,
    pairs_per_step: int = 4,
    **changes: Any,
) -> None:
    """A run directory with the benchmark's settings; the parent of `folder` must exist."""
    folder.mkdir()
    optimizer = {
        "learning_rate": learning_rate,
        "epochs": 1,
        "pairs_per_step": pairs_per_step,
        "warmup_ratio": 0.0,
        "schedule": "constant",
        **changes.pop("optimizer", {}),
    }
    config = {
        "base_model": str(model),
        "lora": {"r": 16, "alpha": 32, "target_modules": "all-linear"},
        "loss": {"name": "dpo", "beta": 0.1},
        "optimizer": optimizer,
        "max_length": 4096,
        "ledger": str(ledger),
        "seed": 0,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    lines = [json.dumps(_example(pair)) for pair in pairs]
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def trained(folder: Path) -> dict[str, Any]:
    """Run the directory; its losses, seconds per step, seconds until the first step's end, peak memory."""
    began = time.time()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"our run in {folder} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    ends = [step["time"] for step in steps]
    return {
        "losses": [step["loss"] for step in steps],
        "margins": [step["rewards/margins"] for step in steps],
        "step_seconds": [after - before for before, after in pairwise(ends)],
        "first_step_ended": ends[0] - began,
        "total_seconds": time.time() - began,
        **json.loads(done.stdout.splitlines()[-1]),
    }


def order_taken(folder: Path) -> list[str]:
    """The ids of the pairs in the order of the run's steps."""
    lines = (folder / "margins.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["id"] for record in map(json.loads, lines) if record["step"] > 0]


def _example(pair: Pair) -> dict[str, Any]:
    def said(role: str) -> list[dict[str, str]]:
        return [{"role": role, "content": pair.id}]

    return {
        "id": pair.id,
        "prompt": said("user"),
        "chosen": said("assistant"),
        "rejected": said("assistant"),
        "prompt_token_ids": pair.prompt,
        "chosen_token_ids": pair.chosen,
        "rejected_token_ids": pair.rejected,
    }
