"""Nothing that was begun is lost: closing the tab, a lost network, somebody else's browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Draft, Flag, Lease, Preference, Skip, Study, User
from tests.support.browser import OpenContext, hear_requests, hold_clock, sign_in
from tests.support.label_screen import open_label, press, shown, until, wait_for_ahead
from tests.support.labelling import assert_slots_add_up, make_annotator, make_pair, make_pairs

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def stored(page: Page) -> list[str]:
    names: list[str] = page.evaluate("Object.keys(localStorage).filter((key) => /draft|unsent/.test(key))")
    return names


def write_something(page: Page) -> None:
    press(page, "2", "e")
    page.locator("[data-editor] textarea").fill("My better version")
    press(page, "Escape", "r")
    page.keyboard.type("Because it is kinder")
    press(page, "Escape")


def expect_it_back(page: Page) -> None:
    expect(page.locator("[data-draft-note]")).to_be_visible()
    expect(page.locator("[name=rationale]")).to_have_value("Because it is kinder")
    expect(page.locator(".pane-b [data-editor] textarea")).to_have_value("My better version")
    expect(page.locator("[name=verdict][value=right]")).to_be_checked()


def test_complaint_6_finished_work_and_texts_survive_the_tab(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    """Label Studio #1101, Open-Assistant #1138."""
    make_pair(study)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    write_something(page)
    page.close()
    page = open_label(context.new_page(), study)
    expect_it_back(page)
    press(page, "Enter")
    until(lambda: Preference.objects.count() == 1)
    expect(page.locator("#queue-empty-title")).to_be_visible()
    assert stored(page) == []
    until(lambda: not Draft.objects.exists())


def test_a_draft_is_there_on_another_device(open_context: OpenContext, study: Study, ana: User) -> None:
    make_pair(study)
    page = open_label(open_context(ana).new_page(), study)
    write_something(page)
    page.goto("about:blank")
    until(lambda: Draft.objects.exists())
    expect_it_back(open_label(open_context(ana).new_page(), study))


def test_complaint_7_a_skip_asks_nothing_and_loses_nothing(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    """Open-Assistant #3325, #978: no question at a skip; taken back, the pair is there again."""
    make_pairs(study, 2)
    page = open_label(open_context(ana).new_page(), study)
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    first = shown(page)
    press(page, " ")
    expect(page.locator("[data-saved]")).to_contain_text("Skipped")
    assert Skip.objects.exists()
    press(page, "z")
    expect(page.locator(f"[data-pair='{first}']")).to_be_visible()
    assert dialogs == []


def test_undo_brings_back_what_was_written_but_no_choice(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 2)
    page = open_label(open_context(ana).new_page(), study)
    write_something(page)
    press(page, "Enter")
    until(lambda: Preference.objects.exists())
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    press(page, "z")
    expect(page.locator("[data-draft-note]")).to_be_visible()
    expect(page.locator("[name=rationale]")).to_have_value("Because it is kinder")
    expect(page.locator("[data-editor] textarea")).to_have_value("My better version")
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    page.get_by_role("button", name="Discard it").click()
    expect(page.locator("[name=rationale]")).to_have_value("")
    expect(page.locator("[data-editor]")).to_have_count(0)


def test_what_could_not_be_sent_outlives_the_tab_and_is_sent_once(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    first = shown(page)
    context.set_offline(True)
    write_something(page)
    press(page, "Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("Not saved yet")
    page.close()
    context.set_offline(False)
    page = open_label(context.new_page(), study)
    until(lambda: Preference.objects.count() == 1)
    preference = Preference.objects.get()
    assert preference.edited_response
    assert (preference.pair_id, preference.rationale) == (first, "Because it is kinder")
    assert preference.edited_response.text == "My better version"
    expect(page.locator(f"[data-pair='{first}']")).to_have_count(0)
    assert [name for name in stored(page) if "unsent" in name] == []
    page.reload()
    page.wait_for_timeout(300)
    assert Preference.objects.count() == 1
    assert_slots_add_up(study)


def test_a_flag_that_could_not_be_sent_is_sent_later(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    wait_for_ahead(study, ana)
    context.set_offline(True)
    press(page, "f", "2", "Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("Not saved yet")
    context.set_offline(False)
    until(lambda: Flag.objects.count() == 1)
    expect(page.locator("[data-unsaved]")).to_be_hidden()
    assert_slots_add_up(study)


def test_somebody_else_at_the_same_computer_sees_and_sends_nothing_of_mine(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    study.refresh_from_db()
    Study.objects.update(labels_per_pair=2)
    study.refresh_from_db()
    make_pair(study)
    ben = make_annotator(study, "ben")
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    write_something(page)
    assert len(stored(page)) == 1
    url = page.url
    page.close()
    context.clear_cookies()
    sign_in(context, user=ben, url=url)
    page = open_label(context.new_page(), study)
    expect(page.locator("[name=rationale]")).to_have_value("")
    assert stored(page) == []
    assert not Preference.objects.exists()
    assert Lease.objects.count() == 2


def test_time_away_is_no_time_on_the_pair(open_context: OpenContext, study: Study, ana: User) -> None:
    make_pair(study)
    context = open_context(ana)
    page = context.new_page()
    hold_clock(page)
    open_label(page, study)
    page.clock.run_for(20_000)
    page.keyboard.press("d")  # 20 s of reading, then ten minutes at lunch
    page.clock.run_for(600_000)
    press(page, "d")
    page.clock.run_for(5_000)
    press(page, "1", "Enter")
    until(lambda: Preference.objects.count() == 1)
    # 20 s, then 30 s of the lunch at most, then 5 s.
    assert Preference.objects.get().duration_ms == 55_000


def test_the_heartbeat_beats_while_somebody_works_and_stops_when_they_left(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pair(study)
    page = open_context(ana).new_page()
    beats: list[str] = []
    page.on("request", lambda request: beats.append(request.url) if "heartbeat" in request.url else None)
    hold_clock(page)
    open_label(page, study)
    page.clock.run_for(65_000)
    hear_requests(page)
    assert len(beats) == 1
    press(page, "d")
    page.clock.run_for(60_000)
    hear_requests(page)
    assert len(beats) == 2
    page.clock.run_for(900_000)
    hear_requests(page)
    assert len(beats) == 2
