"""`python -m benchmarks.turnaround`: last label to next pair, the product beside TRL with a vLLM restart."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.turnaround.plain import SETTINGS
from benchmarks.turnaround.report import results, setup, table
from dpo_studio.processes.demo_model import demo_model_path
from dpo_studio.processes.environment import StudioEnvironment
from training.serving.manager import free_port

# The demo study has 80 training prompts; a pair whose two responses stay identical is dropped.
PAIRS, QUICK_PAIRS = 80, 24


def main() -> None:
    """Measure, print a table and write the results."""
    arguments = _arguments()
    # Our trainer sets this for itself; so that both sides wait for their threads alike, TRL gets it too.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # The product keeps its models apart from its scratch homes.
    model = demo_model_path(StudioEnvironment.read(os.environ).models)
    os.environ["STUDIO_MODELS"] = str(model.parent)
    stated = setup(settings=arguments.settings)
    found: dict[str, list[dict[str, Any]]] = {"product": [], "script": []}
    with tempfile.TemporaryDirectory(prefix="turnaround-") as scratch:
        for repeat in range(1 if arguments.quick else arguments.repeats):
            _say(f"the product, repeat {repeat + 1}")
            product = _product(Path(scratch) / str(repeat), pairs=arguments.pairs)
            found["product"].append(product)
            _say(f"the script, repeat {repeat + 1}")
            found["script"].append(
                _script(Path(scratch), product=product, model=model, settings=arguments.settings)
            )
    measured = results(found, setup=stated)
    arguments.output.write_text(json.dumps(measured, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(measured))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.turnaround", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("bench-turnaround.json"), help="where they go")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each side (2)")
    parser.add_argument("--pairs", type=int, help=f"labels of the round, at most {PAIRS} ({PAIRS})")
    parser.add_argument("--settings", choices=SETTINGS, default=next(iter(SETTINGS)), help="how TRL trains")
    parser.add_argument("--quick", action="store_true", help=f"one repeat of {QUICK_PAIRS} pairs")
    arguments = parser.parse_args()
    arguments.pairs = arguments.pairs or (QUICK_PAIRS if arguments.quick else PAIRS)
    if not 16 <= arguments.pairs <= PAIRS:
        parser.error(f"--pairs = {arguments.pairs} must be from 16, the demo's minimum, to {PAIRS}")
    return arguments


def _product(home: Path, *, pairs: int) -> dict[str, Any]:
    job = {"home": str(home), "port": free_port("127.0.0.1"), "pairs": pairs}
    return _child("benchmarks.turnaround.ours", job=job, path=home.with_suffix(".ours.json"))


def _script(scratch: Path, *, product: Mapping[str, Any], model: Path, settings: str) -> dict[str, Any]:
    """Run the script on the examples, settings and first prompt of the product's round."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        job = {
            **{name: product[name] for name in ("examples", "config", "prompt", "sampling")},
            "model": str(model),
            "folder": folder,
            "settings": settings,
            "began": time.time(),
        }
        return _child("benchmarks.turnaround.plain", job=job, path=Path(folder) / "job.json")


def _child(module: str, *, job: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The last line that a module of ours prints for the job, run in a process of its own."""
    path.write_text(json.dumps(job), encoding="utf-8")
    command: Sequence[str] = [sys.executable, "-m", module, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{module} failed:\n{done.stdout[-1000:]}\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _say(text: str) -> None:
    print(f"… {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
