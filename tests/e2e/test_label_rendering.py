"""How texts look: differences, code, formulas, long texts, several messages, scripts of both directions."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from annotate.models import Study, User
from tests.support.browser import OpenPage
from tests.support.label_screen import open_label, press
from tests.support.labelling import make_pair, make_prompt

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CODE = "Use this:\n\n```python\ndef twice(x):\n    return 2 * x  # fine\n```"
MATH = "The sum is $\\sum_{i=1}^n i$, and\n\n$$\\frac{n(n+1)}{2}$$\n\nfor $5 or $10."


def requested(page: Page) -> list[str]:
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url.rsplit("/", 1)[-1]))
    return urls


def test_differences_are_marked_alike_on_both_sides(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study, texts=("The cat sat on the mat.", "The dog sat on the mat."))
    page = open_label(open_page(ana), study)
    press(page, "d")
    marks = page.locator(".diffed mark")
    expect(marks).to_have_count(2)
    assert set(marks.all_inner_texts()) == {"cat", "dog"}
    assert page.locator("[data-diff]").get_attribute("aria-pressed") == "true"
    press(page, "d")
    expect(page.locator(".pane-a .rendered")).to_be_visible()
    expect(page.locator(".pane-a .diffed")).to_be_hidden()


def test_very_long_texts_are_compared_or_said_to_be_too_long(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    words = [f"word{number}" for number in range(6_000)]
    make_pair(study, texts=(". ".join(words), ". ".join(reversed(words))))
    page = open_label(open_page(ana), study)
    press(page, "d")
    expect(page.locator("[data-hint]")).to_contain_text("too long to compare")
    expect(page.locator(".pane-a .rendered")).to_be_visible()


def test_code_and_formulas_are_set_and_their_libraries_fetched_only_then(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    make_pair(study, texts=("Plain words.", "Other plain words."), priority=2)
    make_pair(study, texts=(CODE, MATH), priority=1)
    page = open_page(ana)
    urls, problems = requested(page), []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    open_label(page, study)
    page.wait_for_load_state("networkidle")
    assert not {"highlight.min.js", "katex.min.js"} & set(urls)
    press(page, "1", "Enter")
    expect(page.locator("code.hljs .hljs-keyword").first).to_have_text("def")
    expect(page.locator("math")).to_have_count(2)
    expect(page.locator(".math-display math[display=block]")).to_have_count(1)
    expect(page.get_by_text("for $5 or $10.", exact=True)).to_be_visible()
    assert {"highlight.min.js", "katex.min.js"} <= set(urls)
    assert problems == []


def test_hostile_formulas_and_code_stay_text(open_page: OpenPage, study: Study, ana: User) -> None:
    hostile = (
        "$\\href{javascript:window.harmed=1}{x}$ $\\htmlData{a=b}{x^2}$ "
        "$\\includegraphics{/harm.png}^2$ $\\def\\a{\\a\\a}\\a_1$\n\n"
        '```html\n<img src=x onerror="window.harmed=1">\n```'
    )
    make_pair(study, texts=(hostile, "fine"))
    page = open_page(ana)
    urls = requested(page)
    open_label(page, study)
    expect(page.locator("code.hljs")).to_be_visible()
    page.wait_for_timeout(300)
    assert page.evaluate("window.harmed") is None
    assert page.locator("main a[href^=javascript], main img").count() == 0
    assert "harm.png" not in urls


def test_complaint_13_long_texts_scroll_and_are_never_cut(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    """Open-Assistant #969: equal panes, an edge that says more, the last word in reach by keys alone."""
    long = "\n\n".join(f"Paragraph {number} of a long answer." for number in range(120))
    make_pair(study, texts=(long, f"{long}\n\nThe very last word."))
    page = open_label(open_page(ana), study)
    expect(page.locator(".pane-view.has-more")).to_have_count(2)
    boxes = [page.locator(f".pane-{name}").bounding_box() for name in "ab"]
    assert boxes[0]
    assert boxes[1]
    assert boxes[0]["height"] == boxes[1]["height"]
    submit = page.get_by_role("button", name="Submit").bounding_box()
    assert submit
    assert submit["y"] + submit["height"] <= 800
    press(page, "PageDown")
    tops = page.eval_on_selector_all("[data-pane-body]", "all => all.map((one) => one.scrollTop)")
    assert tops[0] == tops[1] > 0
    press(page, "End")
    expect(page.locator(".pane-view.has-more")).to_have_count(0)
    expect(page.get_by_text("The very last word.").first).to_be_in_viewport()


def test_earlier_messages_are_folded_and_the_last_is_open(
    open_page: OpenPage, study: Study, ana: User
) -> None:
    turns = [
        {"role": "user", "content": "First question. " * 30},
        {"role": "assistant", "content": "First answer. " * 30},
        {"role": "user", "content": "The question that counts?"},
    ]
    make_pair(study, prompt=make_prompt(study, messages=turns))
    page = open_label(open_page(ana), study)
    expect(page.get_by_text("The question that counts?").first).to_be_visible()
    expect(page.get_by_text("First answer.").first).to_be_hidden()
    page.get_by_text("2 earlier messages").click()
    expect(page.get_by_text("First answer.").first).to_be_visible()


def test_each_paragraph_finds_its_own_direction(open_page: OpenPage, study: Study, ana: User) -> None:
    make_pair(study, texts=("English first.\n\nالقمر جميل هذه الليلة.", "月亮很美 🌙"))
    page = open_label(open_page(ana), study)
    arabic = page.get_by_text("القمر جميل هذه الليلة.").locator("visible=true")
    line = arabic.evaluate(
        """paragraph => {
          const range = document.createRange(); range.selectNodeContents(paragraph);
          const text = range.getBoundingClientRect(), box = paragraph.getBoundingClientRect();
          return { left: text.left - box.left, right: box.right - text.right };
        }"""
    )
    assert line["right"] < 2 < line["left"]
    expect(page.get_by_text("月亮很美 🌙").locator("visible=true")).to_be_visible()
