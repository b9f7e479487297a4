"""The labelling screen in a real browser: keys, fetching ahead, hostile output, lost networks, phones."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from django.urls import reverse
from playwright.sync_api import Dialog, Page, Route, expect

from annotate.models import Lease, Pair, Preference, Skip, Study, User
from annotate.services.pairs import freeze_batch
from annotate.services.studies import set_queue_notice
from tests.support.browser import OpenContext, OpenPage
from tests.support.labelling import (
    assert_slots_add_up,
    make_annotator,
    make_pair,
    make_pairs,
    make_prompt,
    make_study,
    next_pair,
)

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

HOSTILE = """<script>window.harmed = "script"; alert(1)</script>
<img src="/harm.png" onerror="window.harmed = 'img'; alert(2)">
<iframe src="/harm-frame/"></iframe>
<style>body { display: none } @import url("/harm.css")</style>
<svg onload="window.harmed = 'svg'"><image href="/harm-svg.png"/></svg>
<form action="/logout/" method="post"><button>free money</button></form>
[link](javascript:window.harmed='link') ![beacon](/harm-beacon.png) <a href="javascript:alert(3)">x</a>
<base href="https://harm.example/"> &lt;script&gt;window.harmed='entity'&lt;/script&gt;
\u202eright to left\u202c <div style="position:fixed;inset:0">cover</div>"""


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")


def open_label(page: Page, study: Study) -> Page:
    page.goto(reverse("label", args=[study.slug]))
    return page


def shown(page: Page) -> int:
    return int(page.locator("#stage [data-pair]").get_attribute("data-pair") or 0)


def until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Wait for something in the database."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def wait_for_ahead(study: Study, annotator: User) -> None:
    """Wait until the screen holds its pair and the one fetched ahead."""
    until(lambda: Lease.objects.filter(annotator=annotator, pair__study=study).count() == 2)


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
    for key in ("0", "Enter", "b", "Enter"):
        page.keyboard.press(key)
        page.wait_for_timeout(300)
    until(lambda: Preference.objects.count() == 2)
    assert dict(Preference.objects.values_list("pair", "verdict")) == {first: "tie", second: "both_bad"}
    page.keyboard.press(" ")
    expect(page.locator("[data-saved]")).to_contain_text("Skipped")
    assert Skip.objects.count() == 1
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("#queue-empty-title")).to_have_text("All done")
    assert_slots_add_up(study)


def test_the_pair_fetched_ahead_is_shown_before_the_server_has_answered(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 3)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    first = shown(page)
    held: list[Route] = []
    page.route("**/judge/", lambda route: held.append(route))
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    assert shown(page) != first
    expect(page.locator("[data-saved]")).to_contain_text("Saving")
    assert not Preference.objects.exists()
    until(lambda: page.evaluate("1") == 1 and len(held) == 1)
    held[0].continue_()
    expect(page.locator("[data-saved]")).to_contain_text("Saved")
    assert Preference.objects.count() == 1


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
    page.evaluate("document.querySelector('.label-head').append(document.createElement('textarea'))")
    page.locator("textarea").click()
    page.keyboard.type("1 2 0 b z g ?")
    page.keyboard.press("Enter")
    assert page.locator("textarea").input_value() == "1 2 0 b z g ?\n"
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    page.locator("textarea").evaluate("element => element.remove()")
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
    expect(page.locator(".pane-a pre.raw")).to_be_visible()


def test_hostile_output_is_harmless(open_page: OpenPage, study: Study, ana: User) -> None:
    prompt = make_prompt(study, messages=[{"role": "user", "content": HOSTILE}])
    make_pair(study, prompt=prompt, texts=(HOSTILE, "harmless"))
    lead = User.objects.get(memberships__study=study, memberships__role="lead")
    pages = [reverse("label", args=[study.slug]), reverse("prompt-detail", args=[study.slug, prompt.pk])]
    pages += [reverse("prompt-list", args=[study.slug])]
    page = open_page(lead)
    dialogs: list[str] = []
    requests: list[str] = []

    def refuse(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", refuse)
    page.on("request", lambda request: requests.append(request.url))
    for address in pages:
        page.goto(address)
        page.wait_for_load_state("load")
        page.wait_for_timeout(300)
        assert page.evaluate("window.harmed") is None, address
        assert page.evaluate("getComputedStyle(document.body).display") != "none"
        assert page.locator("main iframe, main img, main style, main script").count() == 0
        assert page.locator("main a[href^='javascript']").count() == 0
    page.goto(pages[0])
    page.get_by_text("Raw text").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.harmed") is None
    assert dialogs == []
    assert not [url for url in requests if "harm" in url]


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
    assert (Preference.objects.get().pair_id, Preference.objects.get().verdict) == (first, "tie")
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
    context.add_cookies(cookies)  # type: ignore[arg-type]
    page.get_by_role("button", name="Try now").click()
    expect(page.locator("[data-unsaved]")).to_be_hidden()
    until(lambda: Preference.objects.count() == 1)


def test_labels_faster_than_the_answers_never_bring_a_pair_twice(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 4)
    page = open_label(open_page(ana), study)
    wait_for_ahead(study, ana)
    page.wait_for_load_state("networkidle")
    held: list[Route] = []
    page.route("**/judge/", lambda route: held.append(route))
    for _ in range(2):
        page.keyboard.press("1")
        page.keyboard.press("Enter")
    for number in range(2):
        page.wait_for_timeout(300)
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

    page.route("**/judge/", lose_the_first_answer)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    expect(page.locator("[data-saved]")).to_contain_text("Saved", timeout=10_000)
    assert Preference.objects.count() == 1
    assert_slots_add_up(study)


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
    page = open_label(open_page(ana), study)
    expect(page.locator("#stage")).to_contain_text("No pairs yet")
    expect(page.locator("#stage")).to_contain_text("New pairs are being sampled; 0 are here so far.")
    page.wait_for_timeout(2_000)
    pair, made_at = make_pair(study), time.monotonic()
    expect(page.locator(f"#stage [data-pair='{pair.pk}']")).to_be_visible(timeout=12_000)
    page.keyboard.press("1")
    page.keyboard.press("Enter")
    until(lambda: Preference.objects.filter(pair=pair).exists())
    duration = Preference.objects.get().duration_ms
    assert duration is not None
    assert duration < 1000 * (time.monotonic() - made_at)  # the wait for a pair is not time on it


def test_a_screen_that_waits_asks_to_sign_in_again_when_the_session_ended(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    context = open_context(ana)
    page = open_label(context.new_page(), study)
    expect(page.locator("#queue-empty-title")).to_have_text("No pairs yet")
    context.clear_cookies(name="sessionid")
    expect(page.get_by_label("Password")).to_be_visible(timeout=12_000)
    assert "next=" in page.url
    expect(page.locator("#stage")).to_have_count(0)


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
        page.wait_for_timeout(400)
    expect(other.locator("[data-problem-line]")).to_contain_text("labelled this pair already")
    assert Preference.objects.count() == 1
    assert Lease.objects.filter(annotator=ana).count() <= 2
    assert_slots_add_up(study)


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_panes_are_stacked_and_the_bar_is_in_reach(
    open_page: OpenPage, study: Study, ana: User, dark: bool
) -> None:
    long = "A long line of text that goes on and on. " * 60 + "\n\n```\n" + "x" * 300 + "\n```"
    make_pair(study, texts=(long, "short"))
    page = open_label(open_page(ana, phone=True, dark=dark), study)
    a, b = page.locator(".pane-a").bounding_box(), page.locator(".pane-b").bounding_box()
    assert a
    assert b
    assert a["y"] + a["height"] <= b["y"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    submit = page.get_by_role("button", name="Submit").bounding_box()
    assert submit
    assert submit["y"] + submit["height"] <= 844
    page.locator("label.choice", has_text="Both are bad").click()
    page.get_by_role("button", name="Submit").click()
    until(lambda: Preference.objects.count() == 1)
    assert Preference.objects.get().verdict == "both_bad"


def test_panes_are_side_by_side_and_of_equal_height(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study, texts=("text\n\n" * 60, "short"))
    page = open_label(open_page(ana), study)
    a, b = page.locator(".pane-a").bounding_box(), page.locator(".pane-b").bounding_box()
    assert a
    assert b
    assert a["height"] == b["height"]
    assert a["y"] == b["y"]


def test_no_console_errors_on_the_screen(open_page: OpenPage, study: Study, ana: User) -> None:
    """A content security policy that blocks one of our own files would show here."""
    make_pairs(study, 2)
    page = open_page(ana)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    open_label(page, study)
    page.keyboard.press("g")
    page.keyboard.press("?")
    page.wait_for_timeout(500)
    assert errors == []


def test_a_colleague_who_holds_the_rest_is_told_of(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study)
    next_pair(study, make_annotator(study, "ben"))
    page = open_label(open_page(ana), study)
    expect(page.locator("#queue-empty-title")).to_have_text("1 pair is held by colleagues")
    assert Pair.objects.get().slots_taken == 1
