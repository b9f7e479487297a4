"""One's own labels and one's own keys, in a real browser."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotate.models import Draft, Membership, Preference, PreferenceRevision, Side, Study, User, Verdict
from annotate.services.pairs import freeze_batch
from tests.support.browser import OpenContext, OpenPage
from tests.support.label_screen import open_label, press, until
from tests.support.labelling import label, make_pair, make_pairs

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_label_is_found_changed_with_keys_and_its_past_is_kept(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    pair = make_pair(study, texts=("A very peculiar answer.", "Another."))
    make_pair(study)
    label(pair, ana, Verdict.A)
    page = open_label(open_page(ana), study)
    press(page, "h")
    page.wait_for_url("**/history/")
    page.get_by_label("Text in prompt, responses").fill("peculiar")
    page.get_by_role("button", name="Search").click()
    page.locator(".history-prompt a").click()
    expect(page.locator("input[value=left]")).to_be_checked()
    press(page, "2", "r")
    page.keyboard.type("On second thoughts.")
    press(page, "Escape", "Enter")
    expect(page.get_by_text("Your label is changed")).to_be_visible()
    preference = Preference.objects.get()
    assert (preference.verdict, preference.rationale) == ("b", "On second thoughts.")
    actions = list(PreferenceRevision.objects.values_list("action", "verdict"))
    assert actions == [("recorded", "a"), ("changed", "b")]
    expect(page.locator(".revisions li")).to_have_count(2)


def test_a_change_that_was_begun_is_there_again_until_it_is_discarded_or_saved(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    label(pair, ana, Verdict.A, side=Side.A)
    address = reverse("history-pair", args=[study.slug, pair.pk])
    here, elsewhere = (open_context(ana).new_page() for _ in range(2))
    here.goto(address)
    expect(here.locator("input[value=left]")).to_be_checked()
    expect(here.locator("[data-draft-note]")).to_be_hidden()
    press(here, "2", "r")
    here.keyboard.type("On second thoughts.")
    here.goto("about:blank")
    until(lambda: Draft.objects.exists())

    elsewhere.goto(address)
    expect(elsewhere.locator("[data-draft-note]")).to_be_visible()
    expect(elsewhere.locator("input[value=right]")).to_be_checked()
    elsewhere.get_by_role("button", name="Discard it").click()
    expect(elsewhere.locator("input[value=left]")).to_be_checked()
    expect(elsewhere.locator("[name=rationale]")).to_have_value("")
    elsewhere.goto("about:blank")
    until(lambda: not Draft.objects.exists())

    here.goto(address)
    expect(here.locator("[name=rationale]")).to_have_value("On second thoughts.")
    press(here, "Enter")
    expect(here.get_by_text("Your label is changed")).to_be_visible()
    expect(here.locator("input[value=right]")).to_be_checked()
    expect(here.locator("[data-draft-note]")).to_be_hidden()
    assert here.evaluate("Object.keys(localStorage).filter((key) => key.includes('draft'))") == []
    preference = Preference.objects.get()
    assert (preference.verdict, preference.rationale) == ("b", "On second thoughts.")
    assert not Draft.objects.exists()


def test_a_frozen_label_says_why_it_stays(open_page: OpenPage, study: Study, ana: User) -> None:
    pair = make_pair(study, batch=1)
    label(pair, ana, Verdict.A)
    freeze_batch(study=study, batch=1)
    page = open_page(ana)
    page.goto(reverse("history-pair", args=[study.slug, pair.pk]))
    expect(page.get_by_text("Training on this round has begun")).to_be_visible()
    expect(page.get_by_role("button", name="Save the change")).to_have_count(0)
    press(page, "d")  # looking closer still works
    expect(page.locator(".diffed").first).to_be_visible()


def test_keys_are_remapped_and_shown_as_remapped(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pairs(study, 2)
    page = open_page(ana)
    page.goto(reverse("profile"))
    page.get_by_label("A is better").press("j")
    page.get_by_label("B is better").press("j")
    expect(page.get_by_text("Taken by “A is better”")).to_be_visible()
    page.get_by_role("button", name="Save the keys").click()
    ana.refresh_from_db()
    assert ana.keys == {}
    page.get_by_label("B is better").press("k")
    page.get_by_role("button", name="Save the keys").click()
    expect(page.get_by_text("Your keys are saved.")).to_be_visible()
    open_label(page, study)
    press(page, "1")
    expect(page.locator("input:checked[name=verdict]")).to_have_count(0)
    press(page, "k")
    expect(page.locator("input[value=right]")).to_be_checked()
    expect(page.locator("label.choice").first).to_contain_text("j")
    press(page, "?")
    expect(page.locator("#keys dt").first).to_have_text("j")


def test_the_theme_follows_the_person_and_is_there_before_the_page(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    page = open_context(ana).new_page()
    page.goto(reverse("profile"))
    page.locator(".menu summary").last.click()
    with page.expect_response("**/profile/theme/"):
        page.locator("[data-theme-choice][value=dark]").check(force=True)
    ana.refresh_from_db()
    assert ana.theme == "dark"
    elsewhere = open_context(ana, js=False).new_page()
    elsewhere.goto(reverse("profile"))
    assert elsewhere.locator("html").get_attribute("data-theme") == "dark"


def test_hints_are_put_away_once_and_guidelines_say_when_they_changed(
    open_context: OpenContext, study: Study, ana: User
) -> None:
    make_pair(study)
    page = open_label(open_context(ana).new_page(), study)
    expect(page.locator("[data-hints] li")).to_have_count(3)
    expect(page.locator(".guidelines-panel")).to_be_visible()  # never read yet
    page.get_by_role("button", name="Got it").click()
    until(lambda: User.objects.filter(username="ana", hints_dismissed=True).exists())
    until(lambda: Membership.objects.filter(user=ana, guidelines_read=1).exists())
    page.close()
    Study.objects.update(guidelines_version=2, guidelines="Now prefer the *shorter* one.")
    page = open_label(open_context(ana).new_page(), study)
    expect(page.locator("[data-hints]")).to_have_count(0)
    expect(page.get_by_text("They changed since you last read them.")).to_be_visible()
    press(page, "g")
    expect(page.locator(".guidelines-panel")).to_be_hidden()
    page.reload()
    expect(page.get_by_text("They changed since you last read them.")).to_have_count(0)
