"""A real Chromium for tests: one for a folder, a fresh context per test, signed in by session cookie."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from annotate.models import User
from tests.support.chromium import chromium_path

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}

# Long enough for a machine that does something else as well; what is there already waits for nothing.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)

OpenContext = Callable[..., BrowserContext]
OpenPage = Callable[..., Page]


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Start the browser once for the folder whose conftest names this fixture.

    Playwright keeps an event loop running in this thread as long as it is there: Django is told that it is in
    order, and tests of other folders, which start loops of their own, are spared it.
    """
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium")
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_context(chromium: Browser, live_server: LiveServer) -> Iterator[OpenContext]:
    """Return a function that opens a context, signed in as `user` where one is given."""
    contexts: list[BrowserContext] = []

    def open_one(
        user: User | None = None, *, phone: bool = False, dark: bool = False, js: bool = True
    ) -> BrowserContext:
        context = chromium.new_context(
            base_url=live_server.url,
            viewport=PHONE if phone else WIDE,  # type: ignore[arg-type]
            color_scheme="dark" if dark else "light",
            java_script_enabled=js,
        )
        context.set_default_timeout(PATIENCE_MS)
        if user is not None:
            sign_in(context, user=user, url=live_server.url)
        contexts.append(context)
        return context

    yield open_one
    for context in contexts:
        context.close()


@pytest.fixture
def open_page(open_context: OpenContext) -> OpenPage:
    """Return a function that opens a page; the arguments are those of `open_context`."""

    def open_one(user: User | None = None, **options: bool) -> Page:
        return open_context(user, **options).new_page()

    return open_one


def hold_clock(page: Page) -> None:
    """Let time pass on the page to come by `page.clock.run_for` alone, however long the test takes."""
    page.clock.install(time=0)
    page.clock.pause_at(1_000)


def hear_requests(page: Page) -> None:
    """Return when the test has been told of every request that the page has begun."""
    page.evaluate("fetch('/healthz/').then((answer) => answer.text())")


def intercept(page: Page, url: str, handler: Callable[[Route], object]) -> None:
    """Route requests of an open page as `page.route` does; return when the page's requests do go that way.

    Chromium says that it intercepts before the page's own process knows of it. There a key press goes before
    everything else that waits, so that on a busy machine its request would go round the route.
    """
    page.route(url, handler)
    page.route("**/intercepted/", lambda route: route.fulfill(body="yes"))
    page.evaluate("async () => { while ((await (await fetch('/intercepted/')).text()) !== 'yes'); }")


def wait_until(page: Page, condition: Callable[[], bool]) -> None:
    """Wait for something that the page's events tell the test, which they do while the page is waited for."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        page.wait_for_timeout(20)


def sign_in(context: BrowserContext, *, user: User, url: str) -> None:
    """Give the browser the cookie of a fresh session of this person."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[-1]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    context.add_cookies(
        [{"name": settings.SESSION_COOKIE_NAME, "value": str(session.session_key), "url": url}]
    )
