"""`python -m benchmarks.web [--quick]`: measure the label cycle over HTTP, print it, and keep it in the docs.

Studies are made anew in a scratch folder; the server is the one that `make run` starts.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.web import report
from benchmarks.web.client import Annotator, label_for
from benchmarks.web.server import (
    WebServer,
    count_queries,
    prepare_database,
    prepare_study,
    settings_of,
    web_command,
    web_server,
)
from benchmarks.web.study import BenchmarkStudy
from dpo_studio.processes.programs import ROOT

WARM_UP_SECONDS = 3.0
# A study of 1,000 pairs is labelled by one annotator before the time is up.
LEAST_SECONDS = 3.0
SMALL = 50_000
JSON = ROOT / "var" / "benchmarks" / "web.json"


@dataclass(frozen=True)
class Setting:
    """One row of the table: who labels how."""

    annotators: int
    thinking: float = 0.0
    keeps_connection: bool = True
    history: str = "none"


EVERY_SETTING = (
    Setting(1),
    Setting(1, keeps_connection=False),
    Setting(20),
    Setting(20, keeps_connection=False),
    Setting(20, thinking=1.0),
    Setting(50),
    Setting(50, thinking=1.0),
)
MAIN_SETTINGS = (Setting(1), Setting(20), Setting(20, thinking=1.0), Setting(50))
WITH_HISTORY = (Setting(1, history="half"), Setting(20, history="half"))


@dataclass(frozen=True)
class Plan:
    """Which sizes are measured, and for how long each setting."""

    sizes: dict[int, tuple[Setting, ...]]
    seconds: float


FULL = Plan({1_000: EVERY_SETTING, 100_000: MAIN_SETTINGS, 1_000_000: EVERY_SETTING}, seconds=12)
QUICK = Plan({1_000: MAIN_SETTINGS[:3], 100_000: MAIN_SETTINGS[:2]}, seconds=5)


def measure(
    server: WebServer, *, study: BenchmarkStudy, setting: Setting, seconds: float, skip: int
) -> report.Row:
    """Measure one setting by the study's annotators from number `skip` on."""
    sessions = study.sessions[skip : skip + setting.annotators]
    people = [
        Annotator(server.port, slug=study.slug, session=s, keeps_connection=setting.keeps_connection)
        for s in sessions
    ]
    server_before, client_before = server.cpu_seconds(), time.process_time()
    measured = asyncio.run(
        label_for(people, seconds=seconds, warm_up=WARM_UP_SECONDS, thinking=setting.thinking)
    )
    if measured.elapsed < LEAST_SECONDS:
        raise RuntimeError(f"{study.pairs} pairs were too few for {setting}; measure a larger study")
    share = measured.elapsed / (measured.elapsed + WARM_UP_SECONDS)
    return report.row_of(
        measured,
        pairs=study.pairs,
        annotators=setting.annotators,
        thinking=setting.thinking,
        connections="kept" if setting.keeps_connection else "new each",
        history=setting.history,
        server_cpu=share * (server.cpu_seconds() - server_before),
        client_cpu=share * (time.process_time() - client_before),
    )


def measure_all(plan: Plan, *, home: Path) -> list[report.Row]:
    """Measure every setting of every size, each by people who have labelled nothing in the study so far."""
    rows = []
    for pairs, settings in plan.sizes.items():
        # In a small study everybody may label every pair, so that none runs dry while it is measured.
        is_small = pairs < SMALL
        people = sum(setting.annotators for setting in settings)
        fresh = prepare_study(home, pairs=pairs, annotators=people, overlap=people if is_small else 1)
        half = (
            None
            if is_small
            else prepare_study(home, pairs=pairs, annotators=20, overlap=2, judged=pairs // 2)
        )
        with web_server(home) as server:
            used = 0
            for setting in settings:
                rows.append(measure(server, study=fresh, setting=setting, seconds=plan.seconds, skip=used))
                used += setting.annotators
                print(report.line_of(rows[-1]), flush=True)
            if half is not None:
                for setting in WITH_HISTORY:
                    rows.append(measure(server, study=half, setting=setting, seconds=plan.seconds, skip=0))
                    print(report.line_of(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two sizes, under two minutes; not kept in docs")
    parser.add_argument("--json", type=Path, default=JSON)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-web-") as folder:
        home = Path(folder)
        prepare_database(home)
        queries = count_queries(home)
        print(f"{queries} statements per label")
        rows = measure_all(QUICK if options.quick else FULL, home=home)
        command = web_command(settings_of(home))
    about = report.set_up(command=command, queries=queries)
    report.write_json(options.json, rows=rows, about=about)
    section = report.markdown_of(rows, about=about)
    if not options.quick:
        report.keep_in_docs(section)
    print(f"\n{section}\n{options.json}")


if __name__ == "__main__":
    main()
