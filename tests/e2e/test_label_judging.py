"""Grades, rationales, edits and flags on the labelling screen, in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from annotate.models import Flag, Pair, Preference, Skip, Study, User
from tests.support.browser import OpenContext, OpenPage
from tests.support.label_screen import open_label, press, shown, until, wait_for_ahead
from tests.support.labelling import assert_slots_add_up, make_annotator, make_pair, make_pairs

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def edit_of(preference: Preference) -> str:
    assert preference.edited_response is not None
    return preference.edited_response.text


def test_a_grade_follows_the_choice_where_the_study_asks(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    Study.objects.update(ask_strength=True)
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    expect(page.locator(".grades")).to_be_hidden()
    press(page, "1")
    expect(page.locator(".grades")).to_be_visible()
    press(page, "3", "Enter")
    expect(page.locator("[data-trail] li")).to_have_count(1)
    assert Preference.objects.get().strength == 3
    press(page, "2", "Enter")  # Enter without a grade
    expect(page.locator("[data-trail] li")).to_have_count(2)
    press(page, "1", "4", "Escape")  # Escape changes the choice
    expect(page.locator("input:checked[name=verdict], input:checked[name=strength]")).to_have_count(0)
    press(page, "0", "Enter")
    until(lambda: Preference.objects.count() == 3)
    assert list(Preference.objects.order_by("pk").values_list("strength", flat=True)) == [3, None, None]


def test_a_study_that_asks_for_no_grade_is_not_slowed(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    press(page, "1", "2")  # the second key is the other choice, not a grade
    expect(page.locator("input[value=right]")).to_be_checked()
    expect(page.locator(".grades")).to_have_count(0)


def test_a_rationale_and_an_edit_go_with_the_verdict(open_page: OpenPage, study: Study, ana: User) -> None:
    pair = make_pair(study)
    page = open_label(open_page(ana), study)
    press(page, "2", "e")
    area = page.locator(".pane-b [data-editor] textarea")
    expect(area).to_be_focused()
    original = area.input_value()
    assert original in (pair.response_a.text, pair.response_b.text)
    area.fill("A much better answer.")
    press(page, "Escape", "r")
    page.keyboard.type("It is kinder.")
    page.keyboard.press("Control+Enter")
    until(lambda: Preference.objects.count() == 1)
    preference = Preference.objects.get()
    assert (preference.rationale, edit_of(preference)) == ("It is kinder.", "A much better answer.")
    assert {preference.edited_side, preference.shown_left} == {"a", "b"}  # the right pane was edited
    edited = pair.response_a if preference.edited_side == "a" else pair.response_b
    assert edited.text == original


def test_an_edit_without_a_choice_asks_which_and_an_unchanged_one_is_none(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    press(page, "e")
    expect(page.locator("[data-hint]")).to_contain_text("Edit which?")
    press(page, "1")
    expect(page.locator(".pane-a [data-editor] textarea")).to_be_focused()
    press(page, "Escape")
    expect(page.locator("[data-editor]")).to_have_count(0)
    press(page, "1", "Enter")
    until(lambda: Preference.objects.count() == 1)
    assert Preference.objects.get().edited_response is None


def test_a_flag_passes_on_the_pair_and_frees_its_place(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    first = shown(page)
    press(page, "f", "3")
    page.locator("#flag-note").fill("A telephone number")
    page.keyboard.press("Control+Enter")
    expect(page.locator("[data-saved]")).to_contain_text("Flagged")
    flag = Flag.objects.get()
    assert (flag.pair_id, flag.reason, flag.note) == (first, Flag.Reason.PRIVATE, "A telephone number")
    assert shown(page) != first
    assert Pair.objects.get(pk=first).slots_taken == 0
    expect(page.locator("#stage")).to_be_focused()
    press(page, "z")
    expect(page.locator(f"[data-pair='{first}']")).to_be_visible()
    assert not Flag.objects.exists()
    assert not Skip.objects.exists()
    assert_slots_add_up(study)


def test_a_flag_on_a_chosen_pair_keeps_the_verdict(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study)
    page = open_label(open_page(ana), study)
    press(page, "b", "f")
    expect(page.locator("[data-flag-verdict]")).to_be_visible()
    press(page, "1", "Enter")
    until(lambda: Flag.objects.exists())
    assert Preference.objects.get().verdict == "both_bad"
    assert not Skip.objects.exists()


def test_undo_goes_back_ten_times_and_shows_the_trail(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 11)
    page = open_label(open_page(ana), study)
    seen: list[int] = []
    for number in range(10):
        seen.append(shown(page))
        press(page, *("b" if number % 2 else "1", "Enter"))
        expect(page.locator("[data-trail] li")).to_have_count(number + 1)
    for left, pair in zip(range(9, -1, -1), reversed(seen), strict=True):
        press(page, "z")
        expect(page.locator("[data-trail] li")).to_have_count(left)
        expect(page.locator(f"#stage [data-pair='{pair}']")).to_be_visible()
    assert not Preference.objects.exists()
    assert_slots_add_up(study)


def test_complaint_8_skipped_tasks_come_back_only_when_asked(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    """Open-Assistant #934."""
    make_pairs(study, 2)
    page = open_label(open_context(ana).new_page(), study)
    first = shown(page)
    press(page, " ")
    expect(page.locator("[data-saved]")).to_contain_text("Skipped")
    page.reload()
    assert shown(page) != first
    page.goto(f"/studies/{study.slug}/history/?show=skipped")
    page.get_by_role("button", name="Take it back").click()
    expect(page.locator(f"#stage [data-pair='{first}']")).to_be_visible()
    assert_slots_add_up(study)


def test_complaint_9_keys_never_hurt(open_page: OpenPage, study: Study, ana: User) -> None:
    """Label Studio #941: none acts while somebody types, nor when held, nor with a modifier."""
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    first = shown(page)
    press(page, "r")
    page.keyboard.type("1 b 0 z  e f")
    press(page, "Escape", "1")
    page.keyboard.down("Enter")
    for _ in range(4):
        page.keyboard.down("Enter")  # a held key repeats
    page.keyboard.up("Enter")
    expect(page.locator("[data-trail] li")).to_have_count(1)
    assert Preference.objects.get().pair_id == first
    expect(page.locator("#stage [data-pair]")).to_be_visible()
    for key in ("Control+z", "Meta+1", "Alt+b"):
        page.keyboard.press(key)
    assert Preference.objects.count() == 1


def test_complaint_10_consecutive_annotators_see_opposite_sides(open_page: OpenPage, ana: User) -> None:
    """Potato #80."""
    study = Study.objects.get()
    Study.objects.update(labels_per_pair=2)
    study.refresh_from_db()
    make_pair(study, texts=("one text", "another text"))
    ben = make_annotator(study, "ben")
    lefts = [
        open_label(open_page(person), study).locator(".pane-a .rendered").inner_text()
        for person in (ana, ben)
    ]
    assert set(lefts) == {"one text", "another text"}


def test_complaint_11_nothing_tells_who_wrote_what(open_page: OpenPage, study: Study, ana: User) -> None:
    """FastChat #2939, #1210: neither the page nor the answers to it carry an identity or the stored order."""
    pair = make_pair(study)
    page = open_page(ana)
    bodies: list[str] = []
    page.on("response", lambda response: bodies.append(response.url))
    open_label(page, study)
    html = page.content().lower()
    for word in ("policy", "reward", "response_a", "response_b", f'"{pair.response_a_id}"', "round"):
        assert word not in html.replace("border-radius", ""), word
    assert all("/pairs/" not in url or str(pair.pk) in url for url in bodies)
