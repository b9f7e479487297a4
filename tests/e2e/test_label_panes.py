"""Texts on the labelling screen: hostile, long, compared, in colour, on a phone."""

from __future__ import annotations

import pytest
from django.urls import reverse
from playwright.sync_api import Dialog

from annotate.models import (
    Preference,
    Study,
    User,
)
from tests.support.browser import OpenPage
from tests.support.label_screen import open_label, until
from tests.support.labelling import (
    make_pair,
    make_pairs,
    make_prompt,
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
        assert page.locator("main iframe, main img, main style").count() == 0
        assert page.locator("main script:not([type='application/json'])").count() == 0
        assert page.locator("main a[href^='javascript']").count() == 0
    page.goto(pages[0])
    page.get_by_text("Raw text").click()
    page.wait_for_timeout(200)
    assert page.evaluate("window.harmed") is None
    assert dialogs == []
    assert not [url for url in requests if "harm" in url]


def test_on_a_phone_panes_are_stacked_and_the_bar_is_in_reach(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    long = "A long line of text that goes on and on. " * 60 + "\n\n```\n" + "x" * 300 + "\n```"
    make_pair(study, texts=(long, "short"))
    page = open_label(open_page(ana, phone=True), study)
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
