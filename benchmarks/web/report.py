"""The figures of a run: one row for each setting, as JSON and as a table for docs/benchmarks.md."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import django

from benchmarks.web.client import Measured

HEADING = "## Labelling"
DOC = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


@dataclass(frozen=True)
class Row:
    """One setting and its figures; times in milliseconds, CPU per label of the server and of the clients."""

    pairs: int
    annotators: int
    thinking_seconds: float
    connections: str
    history: str
    labels_per_second: float
    p50: float
    p95: float
    p99: float
    server_cpu: float
    client_cpu: float


@dataclass(frozen=True)
class SetUp:
    """What was measured on what."""

    date: str
    cores: int
    machine: str
    python: str
    django: str
    database: str
    server: str
    queries_per_label: int


def row_of(
    measured: Measured,
    *,
    pairs: int,
    annotators: int,
    thinking: float,
    connections: str,
    history: str,
    server_cpu: float,
    client_cpu: float,
) -> Row:
    """Return the figures of one setting; raises ValueError when nothing was measured."""
    if not measured.seconds:
        raise ValueError(f"no label of {annotators} annotators on {pairs} pairs was measured; measure longer")
    times = sorted(measured.seconds)
    count = len(times)
    return Row(
        pairs=pairs,
        annotators=annotators,
        thinking_seconds=thinking,
        connections=connections,
        history=history,
        labels_per_second=round(count / measured.elapsed, 1),
        p50=_milliseconds(times, 0.50),
        p95=_milliseconds(times, 0.95),
        p99=_milliseconds(times, 0.99),
        server_cpu=round(1000 * server_cpu / count, 1),
        client_cpu=round(1000 * client_cpu / count, 1),
    )


def set_up(*, command: tuple[str, ...], queries: int, database: str = "") -> SetUp:
    """Describe the machine and the product's settings."""
    options = " ".join(part for part in command[command.index("--workers") :] if not part.startswith("/"))
    return SetUp(
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        cores=len(os.sched_getaffinity(0)),
        machine=_processor(),
        python=platform.python_version(),
        django=django.get_version(),
        database=database or f"SQLite {sqlite3.sqlite_version}",
        server=f"gunicorn {options}",
        queries_per_label=queries,
    )


def write_json(path: Path, *, rows: list[Row], about: SetUp) -> None:
    """Write everything as one JSON object."""
    whole = {"set_up": dataclasses.asdict(about), "rows": [dataclasses.asdict(row) for row in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(whole, indent=1) + "\n")


def markdown_of(rows: list[Row], *, about: SetUp) -> str:
    """Return the section of docs/benchmarks.md."""
    head = (
        "| pairs | annotators | thinking | connections | history | labels/s | p50 ms | p95 ms | p99 ms "
        "| server CPU ms | client CPU ms |"
    )
    lines = [line_of(row) for row in rows]
    return "\n".join(
        [
            HEADING,
            "",
            "`make bench-web`: one label is the submitted verdict and the next pair's HTML, over HTTP on "
            "loopback, clients on the same cores. Thinking times vary by half.",
            "“Half” is an annotator who has labelled half of a study with two labels per pair, all of whose "
            "pairs are open. CPU times are per label.",
            "",
            f"{about.date} · {about.cores} cores, {about.machine} · Python {about.python}, Django "
            f"{about.django} · {about.database} · `{about.server}` · "
            f"{about.queries_per_label} statements per label",
            "",
            head,
            "|" + " ---: |" * 3 + " --- | --- |" + " ---: |" * 6,
            *lines,
            "",
        ]
    )


def keep_in_docs(section: str, *, path: Path = DOC) -> None:
    """Replace the labelling section of the page, and leave the others as they are."""
    text = path.read_text() if path.exists() else "# Benchmarks\n"
    found = re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)
    if found is None:
        text = f"{text.rstrip()}\n\n{section}"
    else:
        rest = text[found.end() :]
        text = text[: found.start()] + section + ("\n" + rest if rest else "")
    path.write_text(text)


def line_of(row: Row) -> str:
    """Return a row of the table."""
    thinking = f"{row.thinking_seconds:g} s" if row.thinking_seconds else "none"
    cells = (f"{row.pairs:,}", row.annotators, thinking, row.connections, row.history, row.labels_per_second)
    times = (row.p50, row.p95, row.p99, row.server_cpu, row.client_cpu)
    return "| " + " | ".join(str(cell) for cell in (*cells, *times)) + " |"


def _milliseconds(times: list[float], share: float) -> float:
    return round(1000 * times[min(len(times) - 1, int(share * len(times)))], 1)


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), flags=re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()
