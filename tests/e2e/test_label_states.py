"""What the labelling screen says when there is nothing to label, and without JavaScript."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import (
    Pair,
    Preference,
    Skip,
    Study,
    User,
)
from annotate.services.pairs import freeze_batch
from annotate.services.studies import set_queue_notice
from tests.support.browser import OpenContext, OpenPage, hold_clock
from tests.support.label_screen import open_label, shown, until, wait_for_ahead
from tests.support.labelling import (
    make_annotator,
    make_pair,
    make_pairs,
    next_pair,
)

POLLED_EVERY_MS = 5_000

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def poll(page: Page) -> None:
    """Let the screen that waits ask once more, and hear the answer."""
    with page.expect_response("**/label/next/"):
        page.clock.run_for(POLLED_EVERY_MS)


def test_everything_works_without_javascript(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana, js=False), study)
    first = shown(page)
    page.get_by_label("B is better").check(force=True)
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_text("Saved.")).to_be_visible()
    assert Preference.objects.get().pair_id == first
    page.get_by_role("button", name="Undo").click()
    assert shown(page) == first
    assert not Preference.objects.exists()
    page.get_by_role("button", name="Skip").click()
    assert shown(page) != first
    assert Skip.objects.get().pair_id == first
    page.locator("summary", has_text="Guidelines").click()
    expect(page.get_by_text("Prefer the answer that")).to_be_visible()


def test_a_frozen_round_is_told_and_the_next_pair_follows(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pair(study, batch=1, priority=1)
    later = make_pair(study, batch=2)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    freeze_batch(study=study, batch=1)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-problem-line]")).to_contain_text("labels of this round are frozen")
    assert shown(page) == later.pk
    assert not Preference.objects.exists()


def test_the_empty_state_tells_the_truth_and_replaces_itself(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    set_queue_notice(study=study, text="New pairs are being sampled; 0 are here so far.")
    page = open_page(ana)
    hold_clock(page)
    open_label(page, study)
    expect(page.locator("#stage")).to_contain_text("No pairs yet")
    expect(page.locator("#stage")).to_contain_text("New pairs are being sampled; 0 are here so far.")
    for _ in range(3):
        poll(page)
    pair = make_pair(study)
    poll(page)
    expect(page.locator(f"#stage [data-pair='{pair.pk}']")).to_be_visible()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    until(lambda: Preference.objects.filter(pair=pair).exists())
    # The wait for a pair is not time on it, nor is the moment that htmx takes to settle, in which keys work.
    assert Preference.objects.get().duration_ms == 0


def test_a_screen_that_waits_asks_to_sign_in_again_when_the_session_ended(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    context = open_context(ana)
    page = context.new_page()
    hold_clock(page)
    open_label(page, study)
    expect(page.locator("#queue-empty-title")).to_have_text("No pairs yet")
    context.clear_cookies(name="sessionid")
    poll(page)
    expect(page.get_by_label("Password")).to_be_visible()
    assert "next=" in page.url
    expect(page.locator("#stage")).to_have_count(0)


def test_a_colleague_who_holds_the_rest_is_told_of(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study)
    next_pair(study, make_annotator(study, "ben"))
    page = open_label(open_page(ana), study)
    expect(page.locator("#queue-empty-title")).to_have_text("1 pair is held by colleagues")
    assert Pair.objects.get().slots_taken == 1
