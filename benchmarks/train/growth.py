"""How our cost grows with prompt length, completion length and pairs in a pass; a process of its own."""

import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.train.data import made_pairs

# (prompt tokens, completion tokens, pairs in a pass)
POINTS = (
    *((prompt, 144, 1) for prompt in (64, 256, 512, 1024, 2048)),
    *((189, completion, 1) for completion in (32, 64, 288, 576)),
    *((189, 144, pairs) for pairs in (1, 2, 4, 8)),
)


def main() -> None:
    """Print the measurements of the model and repeats on the command line."""
    model, repeats = Path(sys.argv[1]), int(sys.argv[2])
    print(json.dumps(measured(model, repeats=repeats)))


def measured(model: Path, *, repeats: int) -> list[dict[str, Any]]:
    """Seconds per pair of a forward and backward pass, medians, the points taken in turn."""
    import torch

    from training.core.logprobs.pairs import group_logps
    from training.core.model.loading import find_base, load_base, load_policy
    from training.core.run.config import parse_config

    config = parse_config({"base_model": str(model), "lora": {"r": 16, "alpha": 32}})
    policy = load_policy(config, model=load_base(config, base=find_base(config)), trainable=True)
    seconds: dict[tuple[int, int, int], list[float]] = {point: [] for point in POINTS}
    for repeat in range(repeats + 1):
        for point in POINTS:
            prompt, completion, count = point
            pairs = made_pairs(model, count=count, means=(prompt, completion, completion), spread=0.0)
            began = time.perf_counter()
            every = group_logps(policy, pairs=pairs)
            torch.autograd.backward(
                torch.cat([part for pair in every for part in (pair.chosen, -pair.rejected)]).sum()
            )
            if repeat > 0:
                seconds[point].append((time.perf_counter() - began) / count)
    return [
        {"prompt": prompt, "completion": completion, "pairs": count, "seconds": median(found)}
        for (prompt, completion, count), found in seconds.items()
    ]


if __name__ == "__main__":
    main()
