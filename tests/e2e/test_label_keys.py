"""The labelling screen by keyboard, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from annotate.models import (
    Lease,
    Preference,
    Skip,
    Study,
    User,
)
from tests.support.browser import OpenPage
from tests.support.label_screen import open_label, press, shown, until, wait_for_ahead
from tests.support.labelling import (
    assert_slots_add_up,
    make_pair,
    make_pairs,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_label_undo_label_with_the_keyboard_alone(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 4)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    first = shown(page)
    left = Lease.objects.get(pair=first).left_side
    page.keyboard.press("1")
    expect(page.locator("input[value=left]")).to_be_checked()
    page.keyboard.press("Enter")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    assert Preference.objects.get().verdict == left
    second = shown(page)
    assert second != first
    page.keyboard.press("z")
    expect(page.locator(f"#stage [data-pair='{first}']")).to_be_visible()
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    assert not Preference.objects.exists()
    assert Lease.objects.get(pair=first).left_side == left
    press(page, "0", "Enter")
    expect(page.locator("[data-trail] li")).to_have_count(1)
    press(page, "b", "Enter")
    expect(page.locator("[data-trail] li")).to_have_count(2)
    assert dict(Preference.objects.values_list("pair", "verdict")) == {first: "tie", second: "both_bad"}
    page.keyboard.press(" ")
    expect(page.locator("[data-saved]")).to_contain_text("Skipped")
    assert Skip.objects.count() == 1
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("#queue-empty-title")).to_have_text("All done")
    assert_slots_add_up(study)


def test_enter_without_a_verdict_asks_for_one_and_sends_nothing(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    page.keyboard.press("Enter")
    expect(page.locator("[data-hint]")).to_have_text("Choose first")
    assert not Preference.objects.exists()


def test_help_lists_the_keys_and_keys_are_dead_while_it_is_open(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    page.keyboard.press("?")
    dialog = page.locator("dialog#keys")
    expect(dialog).to_be_visible()
    for key in ("1", "b", "z", "g"):
        page.keyboard.press(key)
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(dialog).not_to_be_visible()
    page.keyboard.press("1")
    expect(page.locator("input[value=left]")).to_be_checked()


def test_keys_do_nothing_while_typing_or_with_modifiers(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    press(page, "r")
    page.keyboard.type("1 2 0 b z g ? e r f d")
    page.keyboard.press("Enter")
    assert page.locator("[name=rationale]").input_value() == "1 2 0 b z g ? e r f d\n"
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    press(page, "Escape")
    for key in ("Control+b", "Alt+1", "Meta+2"):
        page.keyboard.press(key)
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    assert not Preference.objects.exists()
    assert not Skip.objects.exists()


def test_arrows_never_choose(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    page.locator("input[value=left]").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        page.keyboard.press(key)
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    expect(page.locator("input[value=right]")).to_be_focused()
    page.keyboard.press(" ")
    expect(page.locator("input[value=right]")).to_be_checked()
    page.keyboard.press("Enter")
    until(lambda: Preference.objects.count() == 1)


def test_a_click_leaves_the_keys_their_meaning(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    first = shown(page)
    page.get_by_text("Raw text").click()
    expect(page.locator(".pane-a pre.raw")).to_be_visible()
    page.locator("label.choice", has_text="B is better").click()
    expect(page.locator("input[value=right]")).to_be_checked()
    page.keyboard.press(" ")
    until(lambda: Skip.objects.filter(pair=first).exists())
    expect(page.locator(f"#stage [data-pair='{first}']")).to_have_count(0)
    expect(page.locator(".pane-a pre.raw")).to_be_visible()
