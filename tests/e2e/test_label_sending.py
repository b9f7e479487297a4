"""Labels on their way: fetched ahead, offline, signed out, twice, too fast."""

from __future__ import annotations

import uuid

import pytest
from playwright.sync_api import Route, expect

from annotate.models import (
    Lease,
    Preference,
    PreferenceRevision,
    Skip,
    Study,
    User,
    Verdict,
)
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import change_preference
from annotate.services.undo import undo_preference
from tests.support.browser import OpenContext, OpenPage, intercept, wait_until
from tests.support.label_screen import open_label, press, shown, try_now, until, wait_for_ahead
from tests.support.labelling import (
    assert_slots_add_up,
    make_pair,
    make_pairs,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_the_pair_fetched_ahead_is_shown_before_the_server_has_answered(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    first = shown(page)
    held: list[Route] = []
    intercept(page, "**/judge/", lambda route: held.append(route))
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    assert shown(page) != first
    expect(page.locator("[data-saved]")).to_contain_text("Saving")
    assert not Preference.objects.exists()
    wait_until(page, lambda: len(held) == 1)
    held[0].continue_()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    assert Preference.objects.count() == 1


def test_a_label_that_cannot_be_sent_is_shown_kept_and_sent_once_later(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    wait_for_ahead(study, ana)
    first = shown(page)
    context.set_offline(True)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("Not saved yet: the server cannot be reached.")
    assert shown(page) == first
    expect(page.locator("input[value=right]")).to_be_checked()
    assert not Preference.objects.exists()
    page.keyboard.press("0")
    context.set_offline(False)
    page.keyboard.press("Enter")
    expect(page.locator("[data-unsaved]")).to_be_hidden()
    until(lambda: Preference.objects.count() == 1)
    preference = Preference.objects.get()
    assert (preference.pair_id, preference.verdict) == (first, "tie")
    assert preference.version > 0
    expect(page.locator(f"#stage [data-pair='{first}']")).to_have_count(0)
    assert_slots_add_up(study)


def test_a_lost_session_keeps_the_label_until_the_person_is_back(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 2)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    cookies = [cookie for cookie in context.cookies() if cookie["name"] == "sessionid"]
    context.clear_cookies(name="sessionid")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("signed out")
    expect(page.get_by_text("Sign in in another tab")).to_be_visible()
    expect(page.get_by_role("button", name="Try now")).to_be_visible()
    context.add_cookies(cookies)  # type: ignore[arg-type]
    try_now(page)
    expect(page.locator("[data-unsaved]")).to_be_hidden()
    until(lambda: Preference.objects.count() == 1)


def test_signing_in_again_elsewhere_sends_what_was_kept(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    """Signing in changes the CSRF token, which the form on the screen still has as it was."""
    ana.set_password("a long password")
    ana.save()
    make_pairs(study, 2)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    context.clear_cookies()
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("signed out")
    with context.expect_page() as opened:
        page.get_by_text("Sign in in another tab").click()
    login = opened.value
    login.get_by_label("Username").fill("ana")
    login.get_by_label("Password").fill("a long password")
    login.get_by_role("button", name="Sign in").click()
    until(lambda: Preference.objects.count() == 1)
    expect(page.locator("[data-unsaved]")).to_be_hidden()


def test_labels_faster_than_the_answers_never_bring_a_pair_twice(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 4)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    intercept(page, "**/judge/", lambda route: held.append(route))
    for _ in range(2):
        page.keyboard.press("1")
        page.keyboard.press("Enter")
    for number in range(2):
        wait_until(page, lambda wanted=number: len(held) > wanted)  # type: ignore[misc]
        held[number].continue_()
    page.unroute("**/judge/")
    third = page.locator("#stage [data-pair]:not(.is-sending)")
    expect(third).to_be_visible()
    number_of_third = third.get_attribute("data-pair")
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator(f"#stage [data-pair='{number_of_third}']")).to_have_count(0)
    until(lambda: Preference.objects.count() == 3)
    assert_slots_add_up(study)


def test_an_answer_that_got_lost_does_not_make_a_second_label(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    lost: list[int] = []

    def lose_the_first_answer(route: Route) -> None:
        if lost:
            return route.continue_()
        route.fetch()
        lost.append(1)
        return route.abort()

    intercept(page, "**/judge/", lose_the_first_answer)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    assert Preference.objects.count() == 1
    assert_slots_add_up(study)


def test_an_undo_pressed_before_the_answer_is_not_lost(open_page: OpenPage, study: Study, ana: User) -> None:
    (pair,) = make_pairs(study, 1)
    page = open_label(open_page(ana), study)
    held: list[Route] = []
    intercept(page, "**/skip/", lambda route: held.append(route))
    press(page, " ", "z", "z")
    wait_until(page, lambda: len(held) == 1)
    held[0].continue_()
    expect(page.locator("[data-saved]")).to_contain_text("Taken back")
    expect(page.locator(f"#stage [data-pair='{pair.pk}']:not(.is-sending)")).to_be_visible()
    assert not Skip.objects.exists()
    assert_slots_add_up(study)


def test_an_undo_of_what_was_refused_takes_nothing_else_back(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    for priority, batch in ((3, 2), (2, 1), (1, 2)):
        make_pair(study, priority=priority, batch=batch)
    page = open_label(open_page(ana), study)
    press(page, "1", "Enter")
    expect(page.locator("[data-trail] li")).to_have_count(1)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    intercept(page, "**/judge/", lambda route: held.append(route))
    press(page, "2", "Enter", "z")
    freeze_batch(study=study, batch=1)
    wait_until(page, lambda: len(held) == 1)
    held[0].continue_()
    expect(page.locator("[data-problem-line]")).to_contain_text("frozen")
    press(page, "1")
    expect(page.locator("input[value=left]")).to_be_checked()
    assert Preference.objects.count() == 1


def test_an_undo_of_a_label_that_cannot_be_sent_yet_is_sent_after_it(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    first = shown(page)
    sent: list[Route] = []

    def cut_the_line(route: Route) -> None:
        sent.append(route)
        if len(sent) > 1:
            route.abort()

    intercept(page, "**/judge/", cut_the_line)
    press(page, "1", "Enter", "z")
    wait_until(page, lambda: len(sent) == 1)
    sent[0].abort()
    expect(page.locator("[data-unsaved]")).to_contain_text("Not saved yet (2 things)")
    press(page, "2", "Enter")
    page.unroute("**/judge/")
    try_now(page)
    expect(page.locator("[data-saved]")).to_contain_text("Taken back")
    expect(page.locator(f"#stage [data-pair='{first}']:not(.is-sending)")).to_be_visible()
    expect(page.locator("[data-unsaved]")).to_be_hidden()
    assert not Preference.objects.exists()
    said = PreferenceRevision.objects.values_list("pair", "action")
    assert list(said) == [(first, "recorded"), (first, "undone")]
    assert_slots_add_up(study)


def test_undo_goes_back_act_by_act_whatever_another_tab_took_back(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    pairs: list[int] = []
    for number in range(2):
        pairs.append(shown(page))
        press(page, "1", "Enter")
        expect(page.locator("[data-trail] li")).to_have_count(number + 1)
    first, second, third = *pairs, shown(page)
    page.wait_for_load_state("networkidle")

    def take_back_elsewhere(pair: int) -> None:
        undo_preference(study=study, annotator=ana, client_id=uuid.uuid4(), pair_id=pair)

    def trail() -> list[int]:
        return [
            int(of)
            for of in page.locator("[data-trail] li").evaluate_all(
                "all => all.map((each) => each.dataset.of)"
            )
        ]

    take_back_elsewhere(first)
    press(page, "2", "Enter")
    expect(page.locator(f"#stage [data-pair='{first}']:not(.is-sending)")).to_be_visible()
    press(page, "2", "Enter")
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    expect(page.locator("[data-trail] li:last-child")).to_have_attribute("data-of", str(first))
    assert trail() == [second, third, first]
    take_back_elsewhere(first)
    press(page, "z")
    expect(page.locator("[data-problem-line]")).to_contain_text("taken that back already")
    assert trail() == [second, third]
    press(page, "z")
    expect(page.locator("[data-trail] li")).to_have_count(1)
    assert Preference.objects.get().pair_id == second


def test_an_undo_whose_answer_got_lost_takes_one_label_back_now_or_after_the_next_visit(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 6)
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    seen: list[int] = []
    for number in range(5):
        seen.append(shown(page))
        press(page, "1", "Enter")
        expect(page.locator("[data-trail] li")).to_have_count(number + 1)
    sent: list[str] = []

    def lose_the_third_answer_and_all_from_the_fifth(route: Route) -> None:
        sent.append(route.request.post_data or "")
        if len(sent) < 3 or len(sent) == 4:
            return route.continue_()
        route.fetch()
        return route.abort()

    intercept(page, "**/undo/", lose_the_third_answer_and_all_from_the_fifth)
    for left in (4, 3, 2):
        press(page, "z")
        expect(page.locator("[data-trail] li")).to_have_count(left)
        expect(page.locator(f"#stage [data-pair='{seen[left]}']:not(.is-sending)")).to_be_visible()
        assert Preference.objects.count() == left
    assert sent[2] == sent[3]
    press(page, "z")
    expect(page.locator("[data-unsaved]")).to_be_visible()
    assert Preference.objects.count() == 1
    page.close()
    page = open_label(context.new_page(), study)
    expect(page.locator("[data-saved]")).to_contain_text("Taken back")
    expect(page.locator(f"#stage [data-pair='{seen[1]}']:not(.is-sending)")).to_be_visible()
    expect(page.locator("[data-trail] li")).to_have_count(1)
    assert Preference.objects.get().pair_id == seen[0]
    press(page, "2", "Enter")
    expect(page.locator("[data-trail] li")).to_have_count(2)
    assert Preference.objects.count() == 2
    wait_for_ahead(study, ana)
    assert_slots_add_up(study)


def test_two_tabs_show_the_same_pair_and_label_it_once(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    context = open_context(ana)
    one, other = open_label(context.new_page(), study), open_label(context.new_page(), study)
    assert shown(one) == shown(other)
    for page, key in ((one, "1"), (other, "2")):
        page.bring_to_front()
        page.keyboard.press(key)
        page.keyboard.press("Enter")
        expect(page.locator("[data-saved]")).not_to_contain_text("Saving")
        until(lambda: Preference.objects.exists())
    expect(other.locator("[data-problem-line]")).to_contain_text("labelled this pair already")
    assert Preference.objects.count() == 1
    assert Lease.objects.filter(annotator=ana).count() <= 2
    assert_slots_add_up(study)


def test_what_is_said_offline_of_a_label_that_is_changed_elsewhere_is_kept_to_be_compared(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")

    def lose_every_answer(route: Route) -> None:
        if not Preference.objects.exists():
            route.fetch()
        route.abort()

    intercept(page, "**/judge/", lose_every_answer)
    press(page, "1", "Enter")
    expect(page.locator("[data-unsaved]")).to_contain_text("Not saved yet")
    change_preference(pair=Preference.objects.get().pair, annotator=ana, verdict=Verdict.TIE)
    press(page, "b", "2")
    page.unroute("**/judge/")
    try_now(page)
    expect(page.locator("[data-problem-line]")).to_contain_text("changed this label since")
    assert Preference.objects.get().verdict == Verdict.TIE
    page.get_by_role("link", name="Compare the two").click()
    expect(page.locator("[data-draft-note]")).to_be_visible()
    expect(page.locator("input[value=right]")).to_be_checked()
    press(page, "Enter")
    until(lambda: Preference.objects.get().verdict in (Verdict.A, Verdict.B))
    assert PreferenceRevision.objects.count() == 3


def test_of_what_two_tabs_say_instead_of_an_unsent_label_the_last_counts(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    context = open_context(ana)
    one, other = context.new_page(), context.new_page()
    for page in (one, other):
        page.route("**/judge/", lambda route: route.abort())
    open_label(one, study)
    press(one, "1", "Enter")
    expect(one.locator("[data-unsaved]")).to_be_visible()
    open_label(other, study)
    expect(other.locator("[data-unsaved]")).to_be_visible()
    press(one, "b", "0")
    press(other, "2")
    for page, count in ((one, 1), (other, 2)):
        page.unroute("**/judge/")
        try_now(page)
        expect(page.locator("[data-unsaved]")).to_be_hidden()
        assert PreferenceRevision.objects.count() == count
    assert Preference.objects.get().verdict in (Verdict.A, Verdict.B)
    assert Preference.objects.get().version == 3
    assert_slots_add_up(study)
