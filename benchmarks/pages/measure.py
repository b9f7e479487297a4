"""The processor time and the statements of each page: `python -m benchmarks.pages.measure SLUG`.

Each page is asked for in this process, through the whole stack of middleware, by the study's lead: first when
nothing of the study is known to the process, then after one more label each time, then once more unchanged.
Prints JSON.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import random
import statistics
import sys
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.pages.world import LEAD

if TYPE_CHECKING:
    from django.test import Client

    from annotate.models import Study

REPEATS = 4
# In the order in which a lead meets them: what one page has worked out, the next may use.
PAGES = {
    "study home": "",
    "study home, its live parts": "live/",
    "open round": "rounds/{open}/",
    "open round, its live parts": "rounds/{open}/live/",
    "trained round": "rounds/{trained}/",
    "run": "rounds/{trained}/runs/1/",
    "training set": "rounds/{open}/training-set/",
    "curves of a run, all steps": "rounds/{trained}/runs/1/metrics/",
    "curves of a run, the newest": "rounds/{trained}/runs/1/metrics/?after={late}",
    "verdicts": "evaluation/",
    "policies": "policies/",
    "policy": "policies/{policy}/",
    "compare": "compare/",
    "compare, plots": "compare/figures/",
    "quality": "quality/",
    "review": "review/",
    "people": "people/",
}


@dataclass(frozen=True)
class PageCost:
    """Milliseconds of processor time and database statements of one page.

    `yardstick` is what a fixed loop took right after it: the speed of a shared machine changes.
    """

    page: str
    first: float
    after_label: float
    unchanged: float
    statements: int
    kilobytes: float
    yardstick: float


def costs_of(slug: str) -> list[PageCost]:
    """Return what each page of the study costs."""
    from annotate.models import Study

    study = Study.objects.get(slug=slug)
    client = lead_of(study)
    warm_up(client, study)
    costs = []
    for page, rest in paths(study).items():
        costs.append(cost_of(client, study=study, page=page, rest=rest))
        print(costs[-1], file=sys.stderr, flush=True)
    return costs


def paths(study: Study) -> dict[str, str]:
    newest = study.rounds.order_by("-number")[0].number
    steps = study.jobs.filter(kind="run").order_by("-pk")[0].total
    numbers = {"open": newest, "trained": newest - 1, "policy": newest - 1, "late": steps - 2}
    return {name: rest.format(**numbers) for name, rest in PAGES.items()}


def lead_of(study: Study) -> Client:
    from django.test import Client

    from annotate.models import User

    client = Client(headers={"host": "127.0.0.1"})
    client.force_login(User.objects.get(username=LEAD), backend="annotate.signed_in.AccountBackend")
    return client


def warm_up(client: Client, study: Study) -> None:
    """Ask for every page of a small study, so that modules and templates are loaded; then forget."""
    from django.core.cache import cache

    from benchmarks.pages.world import Size, build

    small = study_of(build(Size(pairs=60, rounds=3, steps=5, heldout=12, judged=10, annotators=2)))
    for rest in paths(small).values():
        ask(client, study=small, rest=rest)
    cache.clear()


def study_of(slug: str) -> Study:
    from annotate.models import Study

    return Study.objects.get(slug=slug)


def ask(client: Client, *, study: Study, rest: str) -> tuple[float, int, int]:
    """Return milliseconds of processor time, statements and bytes of one page."""
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    with CaptureQueriesContext(connection) as statements:
        began = time.process_time()
        answer = client.get(f"/studies/{study.slug}/{rest}")
        spent = time.process_time() - began
    if answer.status_code not in (200, 286):
        raise RuntimeError(f"{rest or 'study home'} answered {answer.status_code}")
    return 1000 * spent, len(statements), len(answer.content)


def cost_of(client: Client, *, study: Study, page: str, rest: str) -> PageCost:
    first, _, _ = ask(client, study=study, rest=rest)
    changed = []
    for _ in range(REPEATS):
        label_one(study)
        changed.append(ask(client, study=study, rest=rest)[0])
    unchanged = [ask(client, study=study, rest=rest) for _ in range(REPEATS)]
    return PageCost(
        page=page,
        first=round(first, 1),
        after_label=round(statistics.median(changed), 1),
        unchanged=round(statistics.median(cost for cost, _, _ in unchanged), 1),
        statements=unchanged[0][1],
        kilobytes=round(unchanged[0][2] / 1024, 1),
        yardstick=round(yardstick(), 1),
    )


def yardstick() -> float:
    """Return the milliseconds of processor time of a million products."""
    began = time.process_time()
    for number in range(1_000_000):
        number * number
    return 1000 * (time.process_time() - began)


def label_one(study: Study) -> None:
    """Record a label on an open training pair and one on an evaluation pair, as annotators would."""
    from annotate.models import Pair, Side, Verdict
    from annotate.services.preferences import record_preference

    for purpose in (Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE):
        unjudged = study.pairs.filter(purpose=purpose, state=Pair.State.OPEN, slots_taken=0)
        pair = unjudged.order_by("-pk")[0]
        annotator = study.memberships.filter(role="annotator").select_related("user").earliest("pk").user
        record_preference(
            pair=pair,
            annotator=annotator,
            verdict=random.choice((Verdict.A, Verdict.B)),
            client_id=uuid.uuid4(),
            shown_left=Side.A,
        )


def main() -> None:
    # As the web process does, with what it sets before anything is imported.
    importlib.import_module("dpo_studio.wsgi")
    print(json.dumps([dataclasses.asdict(cost) for cost in costs_of(sys.argv[1])]))


if __name__ == "__main__":
    main()
