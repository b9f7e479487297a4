"""Once around the loop as people go: the whole product on real parts, in a real browser.

A lead creates a study, opens a round, labels by keyboard, trains and compares. vLLM, Valkey, the RQ workers,
the trainer, gunicorn and the supervisor are those of `make run`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from dpo_studio.loop.product import running_product
from training.serving.manager import free_port

pytestmark = [pytest.mark.engine, pytest.mark.browser, pytest.mark.slow]


TRAIN, HELDOUT = 10, 3
SECOND = 1000
ENGINE_WAIT = 240 * SECOND
WORK_WAIT = 240 * SECOND


@pytest.fixture(scope="module")
def product_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port("127.0.0.1")
    with running_product(home=tmp_path_factory.mktemp("studio"), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def page(chromium: Browser, product_url: str) -> Iterator[Page]:
    context = chromium.new_context(base_url=product_url, viewport={"width": 1280, "height": 860})
    context.set_default_timeout(20 * SECOND)
    yield context.new_page()
    context.close()


def prompt_file(folder: Path) -> Path:
    """Write a small prompt file with both splits."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": f"In one sentence, what is the number {number} good for?"}
            ],
            "split": "train" if number < TRAIN else "heldout",
        }
        for number in range(TRAIN + HELDOUT)
    ]
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def create_study(page: Page, *, prompts: Path, model: Path) -> None:
    page.goto("/login/")
    page.click("button[value=lead]")
    page.goto("/studies/new/")
    page.fill("[name=name]", "Numbers")
    page.fill("[name=base_model]", str(model))
    page.set_input_files("[name=prompts]", str(prompts))
    page.click("text=Create study")
    expect(page.locator("h1")).to_have_text("Numbers")


def make_it_quick(page: Page) -> None:
    page.goto("/studies/numbers/recipe/")
    page.fill("[name=max_new_tokens]", "24")
    page.fill("[name=minimum_labels]", "4")
    page.fill("[name=epochs]", "1")
    page.click("main button[type=submit]")
    page.goto("/studies/numbers/")


def label_by_keyboard(page: Page, *, pairs: int) -> int:
    """Label with the keys alone until nothing is left, and return how many pairs that were."""
    page.goto("/studies/numbers/label/")
    labelled = 0
    while labelled < pairs:
        pair = page.locator("article.pair")
        pair.wait_for(timeout=ENGINE_WAIT)
        before = pair.get_attribute("data-pair")
        page.keyboard.press("1" if labelled % 2 else "2")
        page.keyboard.press("Enter")
        labelled += 1
        # While both cores sample, an answer may take a moment; then the next pair or an empty state is there.
        expect(page.locator(f"article.pair[data-pair='{before}']")).to_have_count(0, timeout=WORK_WAIT)
    return labelled


def test_a_lead_goes_once_around_the_loop(page: Page, tmp_path: Path, demo_model: Path) -> None:
    create_study(page, prompts=prompt_file(tmp_path), model=demo_model)
    make_it_quick(page)

    page.click("text=Open round 1")
    expect(page.locator("body")).to_contain_text("Round 1")
    # Two samples of 24 tokens at temperature 1 differ; a dropped pair would leave the last one missing here.
    label_by_keyboard(page, pairs=TRAIN - 2)

    page.goto("/studies/numbers/rounds/1/")
    page.locator("#train-button:enabled").click(timeout=60 * SECOND)
    expect(page.locator("#run canvas").first).to_be_visible(timeout=WORK_WAIT)
    expect(page.locator("main .badge", has_text="Trained").first).to_be_visible(timeout=WORK_WAIT)

    page.goto("/studies/numbers/compare/")
    for _ in range(120):
        if page.locator("main ins, main del").count():
            break
        page.wait_for_timeout(2 * SECOND)
        page.reload()
    assert page.locator("main ins, main del").count(), (
        "the compare page shows a word diff between SFT and policy 1"
    )

    page.goto("/studies/numbers/")
    expect(page.get_by_role("button", name="Open round 2")).to_be_visible(timeout=WORK_WAIT)
