"""`python -m benchmarks.pages [--quick]`: measure the lead's pages, print the table, and keep it in the docs.

The study is made anew in a scratch folder; nothing of it stays.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import django

from benchmarks.pages.measure import PageCost
from benchmarks.pages.world import Size
from benchmarks.web.server import prepare_database, settings_of
from dpo_studio.processes.programs import ROOT

HEADING = "## Pages"
DOC = ROOT / "docs" / "benchmarks.md"
LIMIT_MS = 200
QUICK = Size(pairs=5_000, rounds=5, steps=500, heldout=50, judged=25, annotators=5)


def measured(home: Path, *, size: Size) -> list[PageCost]:
    """Make a study of this size and measure its pages, each in a process of its own."""
    prepare_database(home)
    slug = python(home, "benchmarks.pages.world", *(f"--{name}={n}" for name, n in vars(size).items()))
    found = json.loads(python(home, "benchmarks.pages.measure", slug))
    return [PageCost(**row) for row in found]


def python(home: Path, module: str, *arguments: str) -> str:
    """Run a module in the studio at `home` and return the last line it printed."""
    run = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=settings_of(home),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"{module} failed with exit status {run.returncode}; its output is above")
    return run.stdout.splitlines()[-1]


def section_of(rows: list[PageCost], *, size: Size) -> str:
    """Return the section of docs/benchmarks.md."""
    lines = [
        HEADING,
        f"`make bench-pages`: {size.rounds} rounds, {size.pairs:,} pairs, {size.steps:,} steps of metrics a "
        f"run, {size.heldout} held-out prompts, {size.annotators} annotators. Milliseconds of processor time "
        "of one request through all middleware, in one process: the first (templates loaded, nothing known "
        "of the study), the median after each new label on a training pair and on an evaluation pair, the "
        "median unchanged. Statements are those of an unchanged page.",
        "",
        f"{len(os.sched_getaffinity(0))} cores, load average {os.getloadavg()[0]:.1f} at the end, Django "
        f"{django.get_version()}, SQLite. The machine's speed wanders: the yardstick is a loop of a million "
        "products in Python, right after the page.",
        "",
        "| page | first | after a label | unchanged | yardstick | statements | KB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {row.page} | {row.first:.0f} | {row.after_label:.0f} | {row.unchanged:.0f} "
            f"| {row.yardstick:.0f} | {row.statements} | {row.kilobytes:.0f} |"
            for row in rows
        ),
    ]
    return "\n".join(lines) + "\n"


def keep_in_docs(section: str, *, path: Path = DOC) -> None:
    """Put the section into the document in place of the former one, or at its end."""
    text = path.read_text()
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        path.write_text(f"{text.rstrip()}\n\n{section}")
        return
    rest = text[found.end() :]
    path.write_text(text[: found.start()] + section + ("\n" + rest if rest else ""))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the size; not kept in docs")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    with tempfile.TemporaryDirectory(prefix="bench-pages-") as folder:
        rows = measured(Path(folder), size=size)
    section = section_of(rows, size=size)
    print(section)
    if not options.quick:
        keep_in_docs(section)
    slow = [row.page for row in rows if max(row.after_label, row.unchanged) > LIMIT_MS]
    print(f"above {LIMIT_MS} ms: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
