"""The product's side: `python -m benchmarks.turnaround.ours JOB.json` drives the demo study over its pages.

Round 1 is sampled in full and labelled before the clock starts. The lead presses "Train" and "Open round 2"
as soon as they can be pressed; the annotator's page is asked until it shows a pair of round 2.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_studio.loop.product import LoopFailed, environment, running_product

if TYPE_CHECKING:
    from annotate.models import Study
    from dpo_studio.loop.browser import Browser, Page

RULE = "shorter"
LOOK_SECONDS = 0.2
LONGEST_SECONDS = 3600


def main() -> None:
    """Do what the job says and print when each stage ended, in seconds since the last label."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    home, port = Path(job["home"]), int(job["port"])
    os.environ.update(environment(home=home, port=port))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dpo_studio.settings")
    with running_product(home=home, port=port):
        import django

        django.setup()
        print(json.dumps(measured(port=port, home=home, pairs=job["pairs"])))


def measured(*, port: int, home: Path, pairs: int) -> dict[str, Any]:
    """Label `pairs` pairs of round 1 and time the way to round 2's first; with what the script needs."""
    from annotate.models import Study
    from dpo_studio.loop import journey

    study = Study.objects.get(slug=journey.DEMO_STUDY)
    lead = journey.sign_in_with_one_click(port=port, username="lead")
    annotator = journey.sign_in_simulated_annotator(port=port, study=study, rule=RULE)
    journey.open_round(lead, study=study)
    journey.wait_for_jobs(study)
    journey.label_pairs(study=study, number=1, annotator=annotator, rule=RULE, pairs=pairs)

    began = time.time()
    marks = {}
    journey.start_training(lead, study=study, number=1)
    _wait_until_trained(study)
    marks["trained"] = time.time() - began
    journey.open_round(lead, study=study)
    marks["opened"] = time.time() - began
    _wait_for_first_pair(study, annotator=annotator)
    marks["first_pair"] = time.time() - began
    return {"marks": marks, **_what_the_script_needs(study, home=home)}


def _wait_until_trained(study: Study) -> None:
    from dpo_studio.loop.journey import fail_if_failed
    from training.models import Job, Round

    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        if Round.objects.get(study=study, number=1).state == Round.State.TRAINED:
            return
        fail_if_failed(Job.objects.get(study=study, kind=Job.Kind.RUN))
        time.sleep(LOOK_SECONDS)
    raise LoopFailed(f"round 1 was not trained within {LONGEST_SECONDS // 60} minutes")


def _wait_for_first_pair(study: Study, *, annotator: Browser) -> None:
    from dpo_studio.loop import journey

    deadline = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < deadline:
        page = annotator.open(f"/studies/{study.slug}/label/")
        if _shows_round(page, study=study, number=2):
            return
        # A check that stands in front of the new pairs is answered, as a person would.
        if page.form_to("judge") is not None:
            journey.judge(page, annotator=annotator, rule=RULE)
            continue
        journey.sampling_goes_on(study=study, number=2)
        time.sleep(LOOK_SECONDS)
    raise LoopFailed(f"round 2 had no labelable pair within {LONGEST_SECONDS // 60} minutes")


def _shows_round(page: Page, *, study: Study, number: int) -> bool:
    from annotate.models import Pair

    form = page.form_to("judge")
    if form is None:
        return False
    pair_id = int(form.action.rstrip("/").split("/")[-2])
    return Pair.objects.filter(pk=pair_id, study=study, batch=number, purpose=Pair.Purpose.TRAIN).exists()


def _what_the_script_needs(study: Study, *, home: Path) -> dict[str, Any]:
    from training.models import Run, SampledResponse

    run = Run.objects.get(round__study=study)
    first = SampledResponse.objects.filter(round__number=2).order_by("prompt__position", "pk").first()
    if first is None or run.result is None:
        raise LoopFailed("round 2 has no response, or run 1 no result; see the logs in the scratch home")
    return {
        "pairs": run.result["used"],
        "examples": str(home / run.directory / "examples.jsonl"),
        "config": run.config,
        "prompt": first.prompt.messages,
        "sampling": first.settings,
    }


if __name__ == "__main__":
    main()
