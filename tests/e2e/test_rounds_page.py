"""The lead's pages in a real browser: they move by themselves, stay calm, and fit a phone."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from playwright.sync_api import Page, Request, expect

from annotate.models import Verdict
from tests.support.browser import OpenContext, OpenPage, hear_requests, hold_clock
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_job, add_policy, add_run, page_world, write_metrics
from training.models import Job, Round
from training.services.rounds import open_round

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]
POLLED_WITHIN_MS = 5_000


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def metric_rows(steps: int) -> list[dict[str, float | int]]:
    return [
        {
            "step": step,
            "loss": 0.69 - step / 50,
            "rewards/accuracies": 0.5 + step / 50,
            "rewards/margins": step / 10,
            "rewards/chosen": step / 40,
            "rewards/rejected": -step / 40,
            "logps/chosen": -80.0,
            "logps/rejected": -90.0,
            "grad_norm": 2.0,
        }
        for step in range(1, steps + 1)
    ]


def console_of(page: Page) -> list[str]:
    """Collect what the page complains of; the content security policy complains there too."""
    said: list[str] = []
    page.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda error: said.append(str(error)))
    return said


def width_beyond_the_window(page: Page) -> int:
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def requests_to(page: Page, part: str) -> list[str]:
    seen: list[str] = []

    def note(request: Request) -> None:
        if part in request.url:
            seen.append(request.url)

    page.on("request", note)
    return seen


def test_study_home_moves_by_itself_and_leaves_open_what_is_open(
    world: PageWorld, open_page: OpenPage
) -> None:
    job = add_job(
        world.study,
        kind=Job.Kind.SAMPLING,
        state=Job.State.RUNNING,
        round=make_round(world.study),
        done=1,
        total=8,
    )
    page = open_page(world.lead_user)
    page.goto(world.url())
    page.locator(f"#cancel-summary-{job.pk}").click()
    page.locator(f"#cancel-button-{job.pk}").focus()
    Job.objects.filter(pk=job.pk).update(done=5)
    expect(page.locator("#live-jobs")).to_contain_text("5 / 8 responses")
    expect(page.locator(f"#cancel-button-{job.pk}")).to_be_visible()
    expect(page.locator(f"#cancel-button-{job.pk}")).to_be_focused()


def test_polling_ends_when_nothing_moves_and_wakes_with_the_page(
    world: PageWorld, open_page: OpenPage
) -> None:
    job = add_job(
        world.study, kind=Job.Kind.SAMPLING, state=Job.State.RUNNING, round=make_round(world.study), total=8
    )
    page = open_page(world.lead_user)
    hold_clock(page)
    page.goto(world.url())
    asked = requests_to(page, "/live/")
    Job.objects.filter(pk=job.pk).update(state=Job.State.CANCELLED, done=3)
    page.clock.run_for(POLLED_WITHIN_MS)
    expect(page.locator("#live-jobs")).to_contain_text("Cancelled")
    hear_requests(page)
    count = len(asked)
    page.clock.run_for(5 * POLLED_WITHIN_MS)
    hear_requests(page)
    assert len(asked) == count, "the page goes on asking although nothing moves"
    Job.objects.filter(pk=job.pk).update(state=Job.State.RUNNING)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#live-jobs")).to_contain_text("Running")
    Job.objects.filter(pk=job.pk).update(done=7)
    page.clock.run_for(POLLED_WITHIN_MS)
    expect(page.locator("#live-jobs")).to_contain_text("7 / 8 responses")


def test_lost_server_is_told_and_forgotten_when_it_is_back(
    world: PageWorld, open_context: OpenContext
) -> None:
    add_job(
        world.study, kind=Job.Kind.SAMPLING, state=Job.State.RUNNING, round=make_round(world.study), total=8
    )
    context = open_context(world.lead_user)
    page = context.new_page()
    hold_clock(page)
    page.goto(world.url())
    context.set_offline(True)
    page.clock.run_for(POLLED_WITHIN_MS)
    expect(page.get_by_text("The server does not answer; what you see may be old.")).to_be_visible()
    context.set_offline(False)
    page.clock.run_for(POLLED_WITHIN_MS)
    expect(page.get_by_text("The server does not answer; what you see may be old.")).to_be_hidden()


def test_open_round_pressed_on_two_pages_opens_one_round(world: PageWorld, open_page: OpenPage) -> None:
    first, second = open_page(world.lead_user), open_page(world.lead_user)
    for page in (first, second):
        page.goto(world.url())
    for page in (first, second):
        page.get_by_role("button", name="Open round 1").click()
    expect(first.get_by_text("Round 1 is open")).to_be_visible()
    expect(second.get_by_text("Round 1 is already open; train it before the next one.")).to_be_visible()
    assert Round.objects.filter(study=world.study).count() == 1


def test_lead_trains_a_ready_round_from_the_study_home(world: PageWorld, open_page: OpenPage) -> None:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.A])
    page = open_page(world.lead_user)
    page.goto(world.url())
    page.get_by_role("button", name="Train on round 1…").click()
    page.locator("#train-button").click()
    expect(page.get_by_text("Round 1 trains. Its labels are frozen")).to_be_visible()
    expect(page.locator("#live-run-head")).to_contain_text("Queued")


def test_curves_grow_by_what_is_new(world: PageWorld, open_page: OpenPage) -> None:
    run = add_run(
        make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING, done=3, total=9
    )
    write_metrics(run, metric_rows(3))
    page = open_page(world.lead_user)
    said = console_of(page)
    asked = requests_to(page, "/metrics/")
    page.goto(world.url("rounds/1/"))
    expect(page.locator("#curves canvas")).to_have_count(6)
    expect(page.locator("#curve-loss .curve-values")).to_contain_text("0.630")
    write_metrics(run, metric_rows(5))
    expect(page.locator("#curve-loss .curve-values")).to_contain_text("0.590")
    assert any("after=3" in url for url in asked)
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    assert said == []


def test_curves_begin_when_the_first_step_is_written(world: PageWorld, open_page: OpenPage) -> None:
    run = add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING, total=9)
    page = open_page(world.lead_user)
    page.goto(world.url("rounds/1/"))
    expect(page.get_by_text("The curves begin with the first optimiser step.")).to_be_visible()
    write_metrics(run, metric_rows(1))
    expect(page.locator("#curves canvas")).to_have_count(6)
    expect(page.get_by_text("The curves begin with the first optimiser step.")).to_be_hidden()
    Job.objects.filter(run=run).update(state=Job.State.DONE)


def test_page_without_a_run_gets_its_curves_when_another_lead_trains(
    world: PageWorld, open_page: OpenPage
) -> None:
    opened = open_round(study=world.study)
    fill_round(opened)
    page = open_page(world.lead_user)
    page.goto(world.url("rounds/1/"))
    run = add_run(opened, state=Job.State.RUNNING, done=2, total=4)
    write_metrics(run, metric_rows(2))
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINING)
    expect(page.locator("#curves canvas")).to_have_count(6)
    Job.objects.all().update(state=Job.State.DONE)


def test_open_log_follows_its_end(world: PageWorld, open_page: OpenPage) -> None:
    run = add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING, total=9)
    log = Path(settings.STUDIO_HOME) / run.directory / "train.log"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"step {step}\n" for step in range(100)))
    page = open_page(world.lead_user)
    page.goto(world.url("rounds/1/"))
    page.locator("#facts-log summary").click()
    expect(page.locator("#run-log-text")).to_contain_text("step 99")
    with log.open("a") as file:
        file.write("the newest line\n")
    Job.objects.filter(run=run).update(done=1)
    expect(page.locator("#run-log-text")).to_contain_text("the newest line")
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 8"
    assert page.locator("#run-log-text").evaluate(at_end)
    Job.objects.filter(run=run).update(state=Job.State.DONE)


def test_every_page_fits_a_phone_and_breaks_no_security_policy(world: PageWorld, open_page: OpenPage) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    fill_sampling(item)
    run = add_run(item, done=3, total=3)
    write_metrics(run, metric_rows(3))
    add_policy(world.study, run=run)
    page = open_page(world.lead_user, phone=True)
    said = console_of(page)
    for path in (
        world.url(),
        world.url("rounds/1/"),
        world.url("recipe/"),
        world.url("compare/"),
        "/studies/new/",
    ):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert width_beyond_the_window(page) <= 0, path
    assert said == []


def fill_sampling(item: Round) -> None:
    add_job(item.study, kind=Job.Kind.SAMPLING, state=Job.State.QUEUED, round=item, total=8)
    fill_round(item)


def test_create_form_keeps_what_was_typed(world: PageWorld, open_page: OpenPage) -> None:
    page = open_page(world.lead_user)
    page.goto("/studies/new/")
    page.get_by_label("Name").fill("Kind answers")
    page.get_by_label("Base model").fill("/no/such/folder")
    page.get_by_role("button", name="Create study").click()
    expect(page.locator("#id_base_model_error")).to_contain_text("/no/such/folder")
    expect(page.get_by_label("Name")).to_have_value("Kind answers")
    expect(page.get_by_label("Base model")).to_have_attribute("aria-invalid", "true")
