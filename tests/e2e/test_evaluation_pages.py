"""The lead's pages on policies in a real browser: everything can be read on a phone and while typing."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import OpenPage
from tests.training.evaluation.world import answer_all, judged_policy, reference_of
from tests.training.factories import make_trial
from tests.training.page_world import PageWorld, page_world
from training.models import TrialAnswer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]
# The labels that stick out of their picture, and the boxes whose content is wider than they are.
CUT_LABELS = """() => [...document.querySelectorAll('.policy-chart')].flatMap((chart) => {
  const frame = chart.getBoundingClientRect();
  return [...chart.querySelectorAll('.chart-text')].filter((text) => {
    const box = text.getBoundingClientRect();
    return box.left < frame.left || box.right > frame.right;
  }).map((text) => text.textContent);
})"""
TOO_WIDE = """(selector) => [...document.querySelectorAll(selector)].map((box) =>
  box.scrollWidth - box.clientWidth).filter((beyond) => beyond > 0)"""


@pytest.fixture
def world() -> PageWorld:
    found = page_world(heldout=4)
    answer_all(reference_of(found.study), text="the reference says {} to it".format)
    first = judged_policy(found.study, number=1)
    judged_policy(found.study, number=2, parent=first, text="the second says {}".format)
    return found


def test_tables_stack_on_a_phone_and_pictures_keep_their_labels(
    world: PageWorld, open_page: OpenPage
) -> None:
    page = open_page(world.lead_user, phone=True)
    for rest in ("evaluation/", "policies/", "policies/2/"):
        page.goto(world.url(rest))
        assert page.locator(".evaluation-table").count() == 1
        assert page.evaluate(TOO_WIDE, ".table-wrap, html") == [], rest
        assert page.evaluate(CUT_LABELS) == [], rest
    lineage = page.locator(".lineage")
    assert lineage.evaluate("picture => picture.clientWidth") == int(lineage.get_attribute("width") or 0)
    page.goto(world.url("evaluation/"))
    assert page.locator(".policy-chart").count() == 2
    expect(page.get_by_role("button", name="Ask for 20 more pairs of Policy 2")).to_be_visible()


@pytest.mark.parametrize("phone", [False, True])
def test_text_of_an_answer_that_waits_stays_in_its_column(
    world: PageWorld, open_page: OpenPage, phone: bool
) -> None:
    policies = tuple(world.study.policies.order_by("number"))
    trial = make_trial(world.study, text="Say hi.", policies=policies)
    TrialAnswer.objects.filter(trial=trial).update(note="The engine is loading the adapter. " * 5)
    page = open_page(world.lead_user, phone=phone)
    page.goto(world.url(f"compare/try/{trial.pk}/"))
    expect(page.locator(".trial-answer[aria-busy=true]")).to_have_count(3)
    assert page.evaluate(TOO_WIDE, ".trial-answer, html") == []


def beside(page: Page, field: str) -> str:
    return page.locator(f"#id_{field}_said").inner_text()


@pytest.mark.parametrize("phone", [False, True])
def test_recipe_warns_at_the_field_while_it_is_typed(
    world: PageWorld, open_page: OpenPage, phone: bool
) -> None:
    page = open_page(world.lead_user, phone=phone)
    page.goto(world.url("recipe/"))
    page.fill("#id_beta", "0.01")
    expect(page.locator("#id_beta_said")).to_contain_text("β = 0.01 is ")
    expect(page.locator("#recipe-preview")).to_contain_text("Warning: β")
    page.fill("#id_epochs", "0")
    expect(page.locator("#id_epochs_said")).to_contain_text("Epochs = 0 must lie between")
    assert beside(page, "beta") == ""
    page.fill("#id_beta", "0.1")
    page.fill("#id_epochs", "1")
    expect(page.locator("#id_epochs_said")).to_have_text("")
    assert beside(page, "beta") == ""
    if not phone:
        page.evaluate("window.scrollTo(0, 0)")
        height = page.locator("#recipe-preview").evaluate("panel => panel.clientHeight / innerHeight")
        assert height < 0.2
