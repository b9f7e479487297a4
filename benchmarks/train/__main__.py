"""`python -m benchmarks.train`: our trainer and TRL, interleaved, each run in a process of its own."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.train import ours
from benchmarks.train.data import Pair, made_pairs
from benchmarks.train.report import growth_table, rate, setup, table, write_curves

MODEL = Path(os.environ.get("STUDIO_HOME", "var")) / "models" / "SmolLM2-135M-Instruct"
PAIRS_PER_STEP = 4
LEARNING_RATE = 1e-4
# TRL's settings beside its plain one: gradient checkpointing off, reference computed in every step.
PEER_SETTINGS: dict[str, dict[str, Any]] = {
    "reference computed before": {"precompute_ref_log_probs": True},
    "reference computed before, one pair a pass": {
        "precompute_ref_log_probs": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
    },
    "gradient checkpointing": {"gradient_checkpointing": True},
    "bf16 autocast": {"bf16": True},
}


def main() -> None:
    """Measure, print a table and write the results."""
    # The trainer sets this for itself; so that both sides wait for their threads alike, the peer gets it too.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = _arguments()
    steps, repeats = (3, 1) if arguments.quick else (6, arguments.repeats)
    pairs = made_pairs(arguments.model, count=steps * PAIRS_PER_STEP)
    with tempfile.TemporaryDirectory() as scratch:
        results = _measured(arguments, pairs=pairs, repeats=repeats, scratch=Path(scratch))
    arguments.output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(table(results))
    print(f"\nLargest difference of the two loss curves: {results['largest_loss_difference']:.4f}")
    if results["growth"]:
        print("\n" + growth_table(results["growth"]))
    if arguments.curves:
        write_curves(arguments.curves, curves=results["losses"])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train", description=__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help=f"a model's folder ({MODEL})")
    parser.add_argument("--output", type=Path, default=Path("bench-train.json"), help="where the results go")
    parser.add_argument("--curves", type=Path, help="write the loss curves there, as an SVG")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each side (3)")
    parser.add_argument("--quick", action="store_true", help="one repeat of three steps, plain TRL alone")
    return parser.parse_args()


def _measured(
    arguments: argparse.Namespace, *, pairs: Sequence[Pair], repeats: int, scratch: Path
) -> dict[str, Any]:
    found: dict[str, list[dict[str, Any]]] = {"cold": [], "warm": [], "plain": []}
    stated = setup()
    for repeat in range(repeats):
        ledger = scratch / f"ledger-{repeat}.sqlite"
        for name in ("cold", "warm"):
            folder = scratch / f"{name}-{repeat}"
            ours.write_run(
                folder, model=arguments.model, pairs=pairs, ledger=ledger, learning_rate=LEARNING_RATE
            )
            _say(f"ours, {name} ledger, repeat {repeat + 1}")
            found[name].append(ours.trained(folder))
        taken = _in_order(pairs, order=ours.order_taken(scratch / f"warm-{repeat}"))
        _say(f"TRL, repeat {repeat + 1}")
        found["plain"].append(_peer(arguments, pairs=taken, settings={}, scratch=scratch))
    others = {} if arguments.quick else PEER_SETTINGS
    for name, settings in others.items():
        _say(f"TRL, {name}")
        found[name] = [
            _peer(arguments, pairs=taken[: 3 * PAIRS_PER_STEP], settings=settings, scratch=scratch)
        ]
    growth = [] if arguments.quick else _growth(arguments.model)
    return _results(found, setup=stated, growth=growth, others=others)


def _results(
    found: Mapping[str, list[dict[str, Any]]],
    *,
    setup: Mapping[str, str],
    growth: list[dict[str, Any]],
    others: Mapping[str, Any],
) -> dict[str, Any]:
    curves = {
        "TRL": found["plain"][0]["losses"],
        "ours": found["warm"][0]["losses"],
    }
    differences = [abs(one - other) for one, other in zip(*curves.values(), strict=True)]
    return {
        "setup": setup,
        "rows": [
            _row("TRL, gradient checkpointing off", found["plain"]),
            *(_row(f"TRL, {name}", found[name]) for name in others),
            {**_row("ours, cold ledger", found["cold"]), "pairs_per_second": _cold_rate(found)},
            _row("ours, warm ledger", found["warm"]),
        ],
        "losses": curves,
        "largest_loss_difference": max(differences),
        "growth": growth,
        "runs": found,
    }


def _row(name: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        "pairs_per_second": rate(runs, pairs_per_step=PAIRS_PER_STEP),
        "peak_mb": median(run["peak_mb"] for run in runs),
    }


def _cold_rate(found: Mapping[str, list[dict[str, Any]]]) -> float:
    """Pairs per second with the ledger's filling: what a cold run takes longer until its first step's end."""
    cold, warm = found["cold"], found["warm"]
    until_first = [median(run["first_step_ended"] for run in runs) for runs in (cold, warm)]
    filling = until_first[0] - until_first[1]
    count = PAIRS_PER_STEP * len(cold[0]["losses"])
    return float(count / (count / rate(cold, pairs_per_step=PAIRS_PER_STEP) + max(0.0, filling)))


def _peer(
    arguments: argparse.Namespace, *, pairs: Sequence[Pair], settings: Mapping[str, Any], scratch: Path
) -> dict[str, Any]:
    job = scratch / "peer.json"
    values = {
        "model": str(arguments.model),
        "folder": str(scratch / "peer"),
        "learning_rate": LEARNING_RATE,
        "settings": settings,
        "pairs": [
            {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected} for pair in pairs
        ],
    }
    job.write_text(json.dumps(values), encoding="utf-8")
    found: dict[str, Any] = json.loads(_child("benchmarks.train.peer", str(job)))
    shutil.rmtree(scratch / "peer", ignore_errors=True)
    return found


def _growth(model: Path) -> list[dict[str, Any]]:
    _say("ours, by lengths")
    found: list[dict[str, Any]] = json.loads(_child("benchmarks.train.growth", str(model), "3"))
    return found


def _child(module: str, *arguments: str) -> str:
    """The last line that a module of ours prints, run in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def _in_order(pairs: Sequence[Pair], *, order: Sequence[str]) -> list[Pair]:
    by_id = {pair.id: pair for pair in pairs}
    return [by_id[name] for name in order]


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
