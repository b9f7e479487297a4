"""axe-core over every page of the product, light and dark, and over the states of the labelling screen."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Page, expect

from annotate.models import Pair, Study, User, Verdict
from annotate.services.flags import flag_pair
from annotate.services.preferences import skip_pair
from tests.support.axe import grave_findings
from tests.support.browser import OpenPage
from tests.support.label_screen import open_label, press, until
from tests.support.labelling import label, make_pair, make_pairs, make_prompt
from tests.test_permissions import ROWS, address, furnish
from tests.training.factories import make_study as make_whole_study
from tests.training.page_world import page_world

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

FILES = (
    "export-preferences",
    "compare-jsonl",
    "compare-csv",
    "policy-examples",
    "policy-adapter",
    "policy-model",
)
PAGES = [
    name for name, row in ROWS.items() if row.method == "get" and "lead" in row.allowed and name not in FILES
]
CODE = "See `this`:\n\n```python\ndef f(x):\n    return 'y'  # why\n```\n\n| a |\n|---|\n| $x^2$ |"


def told(findings: dict[str, list[str]]) -> str:
    """Return the findings as text, which pytest shows whole."""
    return "\n".join(f"{where}: {line}" for where, lines in findings.items() for line in lines)


def is_page(page: Page, url: str) -> bool:
    """Go there; False for fragments, which are parts of pages that are looked at anyway."""
    answer = page.goto(url)
    assert answer is not None
    assert answer.status < 500, url
    return answer.ok and "<!doctype html" in answer.text()[:100].lower()


def test_no_page_has_a_serious_finding(open_page: OpenPage) -> None:
    study = make_whole_study()
    objects = furnish(study, round_number=1)
    page = open_page(User.objects.get(memberships__study=study, memberships__role="lead"))
    findings: dict[str, list[str]] = {}
    looked_at = 0
    for name in PAGES:
        if is_page(page, address(name, slug=study.slug, objects=objects)):
            looked_at += 1
            if found := grave_findings(page):
                findings[name] = found
    assert told(findings) == ""
    assert looked_at > 15


def test_no_page_of_a_study_with_results_has_a_serious_finding(open_page: OpenPage) -> None:
    world = page_world()
    page = open_page(world.lead_user)
    findings: dict[str, list[str]] = {}
    for name, more in (("study-detail", []), ("compare", []), ("round-detail", [1])):
        page.goto(reverse(name, args=[world.study.slug, *more]))
        if found := grave_findings(page):
            findings[name] = found
    assert told(findings) == ""


def test_no_page_before_signing_in_has_a_serious_finding(open_page: OpenPage) -> None:
    page = open_page()
    for url in (reverse("login"), "/nowhere/"):
        page.goto(url)
        assert grave_findings(page) == []


def test_no_state_of_the_labelling_screen_has_a_serious_finding(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    Study.objects.update(ask_strength=True)
    turns = [{"role": "user", "content": "Long. " * 150}, {"role": "assistant", "content": "Yes."}]
    turns.append({"role": "user", "content": "And now?"})
    pair = make_pair(study, prompt=make_prompt(study, messages=turns), texts=(CODE, CODE * 12), priority=9)
    page = open_label(open_page(ana), study)
    expect(page.locator(".hljs-keyword").first).to_be_visible()
    findings = {"pair with hints and guidelines": grave_findings(page)}
    press(page, "1", "3", "d")
    findings["choice, grade and differences"] = grave_findings(page)
    press(page, "d", "e")
    page.keyboard.type("better")
    press(page, "Escape", "r")
    page.keyboard.type("why")
    findings["editor and rationale"] = grave_findings(page)
    press(page, "Escape", "f")
    findings["flag"] = grave_findings(page)
    press(page, "Escape", "?")
    findings["keys"] = grave_findings(page)
    press(page, "Escape", "Enter")
    until(lambda: pair.preferences.exists())
    expect(page.locator("#queue-empty-title")).to_be_visible()
    findings["nothing left"] = grave_findings(page)
    assert told(findings) == ""


def test_neither_history_nor_profile_has_a_serious_finding(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    labelled, skipped, flagged = make_pairs(study, 3)
    practice = make_pair(study, purpose=Pair.Purpose.PRACTICE)
    label(labelled, ana, Verdict.B)
    label(practice, ana, Verdict.B)
    skip_pair(pair=skipped, annotator=ana)
    skip_pair(pair=flagged, annotator=ana)
    flag_pair(pair=flagged, annotator=ana, reason="other")  # type: ignore[arg-type]
    page = open_page(ana)
    slug = study.slug
    urls = [reverse("history", args=[slug]) + more for more in ("", "?show=skipped", "?q=nothing")]
    urls += [reverse("history-pair", args=[slug, labelled.pk]), reverse("profile")]
    findings: dict[str, list[str]] = {}
    for url in urls:
        page.goto(url)
        if found := grave_findings(page):
            findings[url] = found
    assert told(findings) == ""


def test_the_focus_goes_to_the_pair_and_comes_back_from_dialogs(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pairs(study, 2)
    page = open_label(open_page(ana), study)
    press(page, "1", "Enter")
    expect(page.locator("#stage")).to_be_focused()
    expect(page.locator("[data-announce]")).to_have_text("Saved")
    for opening in ("?", "f"):
        press(page, opening)
        expect(page.locator("dialog[open]")).to_have_count(1)
        press(page, "Escape")
        expect(page.locator("#stage")).to_be_focused()
    # The panes take the focus once they have been laid out and nothing is on its way any more.
    expect(page.get_by_label("Text of response B")).to_be_visible()
    page.wait_for_load_state("networkidle")
    names = []
    for _ in range(5):
        press(page, "Tab")
        names.append(
            page.evaluate(
                "document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"
            )
        )
    assert names[0] == "Prompt"
    assert [name for name in names if name.startswith("Text of")] == [
        "Text of response A",
        "Text of response B",
    ]
