"""Invite, practice and review in a real browser, by keyboard where that is how people work."""

from __future__ import annotations

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from annotate.models import Membership, Pair, Preference, Resolution, Role, Study, User, Verdict
from annotate.services.invites import create_invite
from tests.annotate.check_world import configure, make_known
from tests.support.axe import grave_findings
from tests.support.browser import OpenPage
from tests.support.labelling import label, make_annotator, make_pair, make_pairs, make_study

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def study() -> Study:
    study = configure(make_study(labels_per_pair=2), practice_pairs=2, repeat_share=0.0)
    for number in (1, 2):
        make_known(study, Pair.Purpose.PRACTICE, number=number)
    return study


@pytest.fixture
def lead(study: Study) -> User:
    return User.objects.get(memberships__study=study, memberships__role=Role.LEAD)


def test_from_a_link_to_the_first_real_pair_by_keyboard(
    study: Study, lead: User, open_page: OpenPage
) -> None:
    make_pairs(study, 3)
    new = create_invite(study=study, role=Role.ANNOTATOR, days=1, max_uses=1, note="", actor=lead)
    page = open_page()
    page.goto(reverse("join", args=[new.token]))
    assert not grave_findings(page)
    page.keyboard.type("nora")
    page.fill("[name=password]", "long enough 4 me")
    page.keyboard.press("Enter")
    for number in (1, 2):
        expect(page.locator("[data-practice]")).to_be_visible()
        # The script shows its buttons once it listens to keys.
        expect(page.locator("[data-help]")).to_be_visible()
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        panel = page.locator("[data-feedback]")
        expect(panel).to_contain_text(f"Practice {number} of 2")
        expect(panel).to_contain_text(f"Because of reason {number}.")
        assert not grave_findings(page)
        page.keyboard.press("Enter")
    expect(page.locator("[data-pair]")).to_be_visible()
    expect(page.locator("[data-practice]")).to_have_count(0)
    labels = Preference.objects.filter(annotator__username="nora")
    assert {row.pair.purpose for row in labels.select_related("pair")} == {Pair.Purpose.PRACTICE}
    assert Membership.objects.get(user__username="nora").role == Role.ANNOTATOR


def test_practice_works_without_javascript(study: Study, open_page: OpenPage) -> None:
    page = open_page(make_annotator(study, "ana"), js=False)
    page.goto(reverse("label", args=[study.slug]))
    page.check("[name=verdict][value=tie]")
    page.click("[data-submit]")
    expect(page.locator("[data-feedback]")).to_contain_text("You said: Tie")
    page.click("[data-continue]")
    expect(page.locator("[data-practice]")).to_be_visible()


def test_a_lead_decides_pair_after_pair_by_keyboard(study: Study, lead: User, open_page: OpenPage) -> None:
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for _ in range(2):
        pair = make_pair(study)
        label(pair, ana, Verdict.A)
        label(pair, ben, Verdict.B)
    page = open_page(lead)
    page.goto(reverse("review", args=[study.slug]))
    assert not grave_findings(page)
    page.click(".review-link >> nth=0")
    page.wait_for_url(re.compile(r"/review/\d+/"))
    assert not grave_findings(page)
    page.keyboard.press("2")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(f"Pair {pair.pk}")
    page.wait_for_load_state()
    page.keyboard.press("x")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing here")).to_be_visible()
    decided = [(row.verdict, row.left_out) for row in Resolution.objects.order_by("pk")]
    assert decided == [("b", False), ("", True)]
    page.goto(reverse("quality", args=[study.slug]))
    assert not grave_findings(page)
