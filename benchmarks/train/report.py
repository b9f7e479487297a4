"""What the training benchmark prints: the set-up, a Markdown table, and loss curves as an SVG."""

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("torch", "transformers", "peft", "trl")


def setup() -> dict[str, str]:
    """The machine and the versions that the figures belong to."""
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    flags = next((line for line in _lines("/proc/cpuinfo") if line.startswith("flags")), "")
    found = [flag for flag in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if flag in flags.split()]
    name = (names or ["?"])[0].split(":")[-1].strip()
    return {
        "cpu": f"{len(os.sched_getaffinity(0))} × {name} ({', '.join(found)})",
        "threads": os.environ.get("OMP_NUM_THREADS", "one per core"),
        "load average at the start": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def rate(runs: Sequence[Mapping[str, Any]], *, pairs_per_step: int) -> float:
    """Pairs per second, the median over the runs of the mean step after the first one."""
    return float(median(pairs_per_step * len(run["step_seconds"]) / sum(run["step_seconds"]) for run in runs))


def table(results: Mapping[str, Any]) -> str:
    """The comparison as Markdown: one row per way of training, ratios to TRL's plain setting."""
    rows = results["rows"]
    plain = rows[0]
    lines = ["| | pairs/s | × TRL | peak memory (MB) | ÷ TRL |", "|---|---|---|---|---|"]
    for row in rows:
        speed, memory = row["pairs_per_second"], row["peak_mb"]
        faster, smaller = speed / plain["pairs_per_second"], memory / plain["peak_mb"]
        lines += [f"| {row['name']} | {speed:.2f} | {faster:.1f} | {memory:.0f} | {smaller:.2f} |"]
    stated = " · ".join(f"{name} {value}" for name, value in results["setup"].items())
    return "\n".join([stated, "", *lines])


def growth_table(points: Sequence[Mapping[str, Any]]) -> str:
    """Seconds per pair of forward and backward pass by lengths and pairs per pass."""
    lines = [
        "| prompt tokens | completion tokens (each) | pairs in a pass | seconds per pair | tokens/s |",
        "|---|---|---|---|---|",
    ]
    for point in points:
        tokens = point["prompt"] + 2 * point["completion"]
        lines.append(
            f"| {point['prompt']} | {point['completion']} | {point['pairs']} | {point['seconds']:.2f} "
            f"| {tokens / point['seconds']:.0f} |"
        )
    return "\n".join(lines)


def write_curves(path: Path, *, curves: Mapping[str, Sequence[float]]) -> None:
    """The losses by step, a line per side, the second one dashed so that one under the other can be seen."""
    width, height, left, top = 640, 320, 56, 24
    every = [value for curve in curves.values() for value in curve]
    low, high = min(every), max(every)
    span = (high - low) or 1.0
    steps = max(len(curve) for curve in curves.values())

    def point(step: int, value: float) -> str:
        x = left + (width - left - 16) * step / max(1, steps - 1)
        return f"{x:.1f},{top + (height - top - 40) * (high - value) / span:.1f}"

    styles = (("#2563eb", "none", 5), ("#f59e0b", "6 5", 2))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        f'<text x="8" y="{top + 4}">{high:.3f}</text><text x="8" y="{height - 36}">{low:.3f}</text>',
        f'<text x="{left}" y="{height - 8}">loss by optimiser step, 1 to {steps}</text>',
    ]
    for place, (name, curve) in enumerate(curves.items()):
        colour, dashes, stroke = styles[place]
        line = " ".join(point(step, value) for step, value in enumerate(curve))
        parts += [
            f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{stroke}" '
            f'stroke-dasharray="{dashes}"/>',
            f'<text x="{width - 150}" y="{top + 16 * place}" fill="{colour}">{name}</text>',
        ]
    path.write_text("\n".join([*parts, "</svg>"]) + "\n", encoding="utf-8")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
