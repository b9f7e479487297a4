"""Runs of stage sft on a few demonstrations, for the tests of it."""

import json
import random
from pathlib import Path
from typing import Any

from tests.core.support import WORDS
from training.core.run.config import RunConfig, parse_config, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import write_json, write_json_lines
from training.core.run.records import RunResult
from training.core.stages.sft import run_sft


def demonstrations(count: int) -> list[dict[str, Any]]:
    words = random.Random(3)
    return [
        {
            "id": f"demonstration-{number}",
            "prompt": [{"role": "user", "content": words.choice(WORDS)}],
            "completion": [
                {"role": "assistant", "content": " ".join(words.choices(WORDS, k=2 + number % 3))}
            ],
        }
        for number in range(count)
    ]


def sft_config(base: Path, **changes: Any) -> RunConfig:
    optimizer = {"learning_rate": 1e-2, "epochs": 2, "pairs_per_step": 3, "warmup_ratio": 0.0}
    values: dict[str, Any] = {
        "stage": "sft",
        "base_model": str(base),
        "dtype": "float32",
        "checkpoint_every": 2,
        **({} if changes.get("trainable") == "full" else {"lora": {"r": 4, "alpha": 8}}),
        **changes,
        "optimizer": {**optimizer, **changes.get("optimizer", {})},
    }
    return parse_config(values)


def write_sft_run(path: Path, *, base: Path, count: int = 9, **changes: Any) -> RunDirectory:
    run = RunDirectory(path)
    path.mkdir()
    write_json_lines(run.examples, values=demonstrations(count))
    write_json(run.config, value=sft_config(base, **changes).as_json())
    return run


def train(run: RunDirectory) -> RunResult:
    run_sft(run, config=read_config(run.config))
    return RunResult.from_json(json.loads(run.result.read_text()))


class KilledError(Exception):
    """The process ends here."""
