"""The labelling screen as tests drive it."""

from __future__ import annotations

import time
from collections.abc import Callable

from django.urls import reverse
from playwright.sync_api import Page

from annotate.models import Lease, Study, User


def open_label(page: Page, study: Study) -> Page:
    page.goto(reverse("label", args=[study.slug]))
    return page


def shown(page: Page) -> int:
    return int(page.locator("#stage [data-pair]").get_attribute("data-pair") or 0)


def until(condition: Callable[[], bool], *, seconds: float = 30) -> None:
    """Wait for something in the database."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def wait_for_ahead(study: Study, annotator: User) -> None:
    """Wait until the screen holds its pair and the one fetched ahead."""
    until(lambda: Lease.objects.filter(annotator=annotator, pair__study=study).count() == 2)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def try_now(page: Page) -> None:
    """Press the button that sends what is unsent; that, and with it the button, may have gone by itself."""
    page.locator("[data-unsaved-retry]").dispatch_event("click")
