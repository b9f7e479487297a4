"""The comparison in a real browser: harmless, without JavaScript, on a phone."""

from __future__ import annotations

import threading

import pytest
from playwright.sync_api import Dialog, Page, Request, expect
from pytest_django import Settings

from annotate.models import Prompt
from tests.support.browser import OpenPage
from tests.training.factories import make_round
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_policy,
    add_run,
    heldout_prompts,
    page_world,
)
from training.models import Policy, Round

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

HOSTILE = """<script>window.harmed = "script"; alert(1)</script>
<img src="/harm.png" onerror="window.harmed = 'img'; alert(2)">
<iframe src="/harm-frame/"></iframe> <style>body { display: none } @import url("/harm.css")</style>
<svg onload="window.harmed = 'svg'"></svg> [link](javascript:window.harmed='link') ![beacon](/harm-beacon.png)
</del></ins></section><script>window.harmed = "closed"</script> <a href="javascript:alert(3)">x</a>"""


@pytest.fixture
def world() -> PageWorld:
    return page_world(heldout=2)


@pytest.fixture
def policies(world: PageWorld) -> tuple[Policy, Policy]:
    run = add_run(make_round(world.study, state=Round.State.TRAINED))
    return world.study.policies.get(number=0), add_policy(world.study, run=run)


def answer_all(world: PageWorld, policies: tuple[Policy, Policy]) -> None:
    for prompt in heldout_prompts(world.study):
        for policy, text in zip(policies, ("A long and winding answer", "A short answer"), strict=True):
            add_heldout_response(policy, prompt, text)
            add_heldout_response(policy, prompt, f"{text} again", slot=1)


def test_hostile_model_output_and_prompts_do_nothing(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    prompt = heldout_prompts(world.study)[0]
    Prompt.objects.filter(pk=prompt.pk).update(messages=[{"role": "user", "content": HOSTILE}])
    add_heldout_response(policies[0], prompt, HOSTILE)
    add_heldout_response(policies[1], prompt, f"changed {HOSTILE}")
    page = open_page(world.lead_user)
    dialogs: list[Dialog] = []
    harm: list[str] = []

    def dismiss(dialog: Dialog) -> None:
        dialogs.append(dialog)
        dialog.dismiss()

    def note(request: Request) -> None:
        if "harm" in request.url:
            harm.append(request.url)

    page.on("dialog", dismiss)
    page.on("request", note)
    for path in ("compare/", "compare/?diff=0", f"prompts/{prompt.pk}/"):
        page.goto(world.url(path))
        page.wait_for_load_state("networkidle")
        assert page.evaluate("window.harmed") is None
        assert page.locator("main script, main img, main iframe, main style, main svg[onload]").count() == 0
        assert page.locator("main a[href^='javascript:']").count() == 0
        expect(page.locator("main")).to_be_visible()
    assert (dialogs, harm) == ([], [])


def test_everything_works_without_javascript(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    answer_all(world, policies)
    page = open_page(world.lead_user, js=False)
    page.goto(world.url("compare/"))
    expect(page.locator("del").first).to_have_text("long and winding")
    expect(page.locator("ins").first).to_have_text("short")
    page.get_by_label("Sample", exact=True).select_option("2")
    page.get_by_label("Word diff", exact=True).select_option("off")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("A short answer again").first).to_be_visible()
    expect(page.locator("del")).to_have_count(0)
    page.get_by_role("checkbox", name="SFT reference").uncheck()
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("winding")).to_have_count(0)
    assert "sample=2" in page.url


def test_columns_are_swiped_on_a_phone_while_the_page_stays_put(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    answer_all(world, policies)
    page = open_page(world.lead_user, phone=True)
    page.goto(world.url("compare/"))
    columns = page.locator(".compare-columns").first
    assert columns.evaluate("element => element.scrollWidth > element.clientWidth + 100")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    second = columns.locator(".answer").nth(1)
    columns.scroll_into_view_if_needed()
    columns.evaluate("element => element.scrollTo({ left: element.scrollWidth, behavior: 'instant' })")
    expect(second).to_be_in_viewport(ratio=0.9)


def choose(page: Page, *, label: str, option: str) -> None:
    page.get_by_label(label, exact=True).select_option(option)


def test_filters_and_diff_make_a_link_that_shows_the_same_to_others(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    answer_all(world, policies)
    second = heldout_prompts(world.study)[1]
    Prompt.objects.filter(pk=second.pk).update(tags=["code"])
    page = open_page(world.lead_user)
    page.goto(world.url("compare/"))
    choose(page, label="Tag", option="code")
    choose(page, label="Order", option="grown")
    choose(page, label="Word diff from", option="1")
    choose(page, label="Word diff to", option="0")
    page.get_by_role("button", name="Show").click()
    expect(page.locator(".compare-row")).to_have_count(1)
    expect(page.locator("ins").first).to_have_text("long and winding")
    assert "text=" not in page.url
    other = open_page(world.lead_user)
    other.goto(page.url)
    expect(other.locator(".compare-row")).to_have_count(1)
    expect(other.get_by_label("Order", exact=True)).to_have_value("grown")
    expect(other.locator("ins").first).to_have_text("long and winding")


def test_keys_walk_the_rows_toggle_the_diff_and_open_the_prompt(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    answer_all(world, policies)
    first, second = (f"prompt-{prompt.pk}" for prompt in heldout_prompts(world.study))
    page = open_page(world.lead_user)
    page.goto(world.url("compare/?order=prompt"))
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(page.locator(f"#{second}")).to_be_focused()
    assert page.url.endswith(f"#{second}")
    page.keyboard.press("k")
    expect(page.locator(f"#{first}")).to_be_focused()
    page.keyboard.press("d")
    expect(page.locator("del")).to_have_count(0)
    page.wait_for_load_state()
    assert page.url.endswith(f"#{first}")
    expect(page.locator(f"#{first}")).to_have_class("card compare-row is-current")
    page.keyboard.press("/")
    expect(page.get_by_label("Search", exact=True)).to_be_focused()
    page.keyboard.type("j?")
    expect(page.get_by_label("Search", exact=True)).to_have_value("j?")
    page.get_by_label("Search", exact=True).blur()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="through the rounds")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("j")
    expect(page.get_by_text("2 of 2")).to_be_visible()
    assert "diff=0" in page.url


def test_no_more_than_four_columns_can_be_ticked(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage
) -> None:
    for number in range(2, 6):
        add_policy(world.study, number=number)
    answer_all(world, policies)
    page = open_page(world.lead_user)
    page.goto(world.url("compare/"))
    page.get_by_role("checkbox", name="Policy 1").check()
    expect(page.get_by_role("checkbox", name="Policy 2")).to_be_disabled()
    page.get_by_role("checkbox", name="Policy 1").uncheck()
    expect(page.get_by_role("checkbox", name="Policy 2")).to_be_enabled()


def test_text_waits_for_the_engine_and_is_stopped(
    world: PageWorld, policies: tuple[Policy, Policy], open_page: OpenPage, settings: Settings
) -> None:
    settings.VLLM_URLS = []
    page = open_page(world.lead_user)
    page.goto(world.url("compare/try/"))
    page.get_by_label("Prompt", exact=True).fill("Why is the sky blue?")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_text("Waiting for the engine").first).to_be_visible()
    page.get_by_role("button", name="Stop all").click()
    expect(page.get_by_text("stopped").first).to_be_visible()
    expect(page.get_by_role("button", name="Stop all")).to_have_count(0)
    expect(page.get_by_role("link", name="Why is the sky blue?")).to_be_visible()
    for thread in threading.enumerate():
        if thread.name.startswith("trial-"):
            thread.join(timeout=20)
