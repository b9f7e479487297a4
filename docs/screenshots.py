"""Take the pictures of the README from the running product: `make screenshots` while `make run` is up.

Every page is taken light and dark, 1280 and 390 pixels wide; the README shows the first of each. With
`SHOT_ARGS="--home DIR"` the product is started in the home that `make loop LOOP_ARGS=--keep` has filled.
"""

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from dpo_studio.loop.product import started_product

IMAGES = Path(__file__).resolve().parent / "images"
WIDTHS = {"": {"width": 1280, "height": 800}, "-phone": {"width": 390, "height": 844}}
THEMES = ("light", "dark")
# Who looks at which page, and the keys pressed there before the picture is taken.
PAGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "label": ("ada", "/studies/{study}/label/", ()),
    "label-diff": ("ada", "/studies/{study}/label/", ("d",)),
    "label-edit": ("ada", "/studies/{study}/label/", ("1", "e")),
    "label-flag": ("ada", "/studies/{study}/label/", ("f",)),
    "label-keys": ("ada", "/studies/{study}/label/", ("?",)),
    "history": ("ada", "/studies/{study}/history/", ()),
    "profile": ("ada", "/profile/", ()),
    "compare": ("lead", "/studies/{study}/compare/?order=better", ()),
    "compare-figures": ("lead", "/studies/{study}/compare/figures/", ()),
    "study": ("lead", "/studies/{study}/", ()),
    "round": ("lead", "/studies/{study}/rounds/{round}/", ()),
    "training-set": ("lead", "/studies/{study}/rounds/{round}/training-set/", ()),
    "run": ("lead", "/studies/{study}/rounds/{round}/runs/1/", ()),
    "run-new": ("lead", "/studies/{study}/rounds/{round}/runs/new/", ()),
    "sweep": ("lead", "/studies/{study}/rounds/{sweep}/", ()),
    "gate": ("lead", "/studies/{study}/policies/{policy}/", ()),
    "policies": ("lead", "/studies/{study}/policies/", ()),
    "evaluation": ("lead", "/studies/{study}/evaluation/", ()),
    "quality": ("lead", "/studies/{study}/quality/", ()),
    "people": ("lead", "/studies/{study}/people/", ()),
    "recipe": ("lead", "/studies/{study}/recipe/", ()),
    "demonstrations": ("lead", "/studies/{study}/demonstrations/", ()),
}
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def sign_in(page: Page, *, username: str) -> None:
    page.goto("/login/")
    page.click(f"button[value={username}]")


def take(browser: Browser, *, url: str, arguments: argparse.Namespace) -> None:
    """Take every page asked for in both themes and at both widths."""
    numbers = {name: getattr(arguments, name) for name in ("study", "round", "sweep", "policy")}
    for theme in THEMES:
        for suffix, viewport in WIDTHS.items():
            for name in arguments.pages or list(PAGES):
                username, path, keys = PAGES[name]
                context = browser.new_context(base_url=url, viewport=viewport, color_scheme=theme)  # type: ignore[arg-type]
                page = context.new_page()
                sign_in(page, username=username)
                page.goto(path.format(**numbers), wait_until="networkidle")
                for key in keys:
                    page.keyboard.press(key)
                picture = arguments.folder / f"{name}-{theme}{suffix}.png"
                page.screenshot(path=picture, full_page=arguments.full_page)
                context.close()


@contextmanager
def product_of(arguments: argparse.Namespace) -> Iterator[str]:
    """Give the address of the running product, or of one started in the home."""
    if arguments.home is None:
        yield arguments.url
        return
    with started_product(home=arguments.home.resolve(), port=arguments.port):
        yield f"http://127.0.0.1:{arguments.port}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{os.environ.get('PORT') or 8000}")
    parser.add_argument("--home", type=Path, help="start the product in this home, for the pictures alone")
    parser.add_argument("--port", type=int, default=8766, help="of the product started in --home (8766)")
    parser.add_argument("--study", default="demo")
    parser.add_argument("--round", type=int, default=1, help="whose pages and first run are taken (1)")
    parser.add_argument("--sweep", type=int, default=2, help="the round with several runs (2)")
    parser.add_argument("--policy", type=int, default=1, help="whose gate is taken (1)")
    parser.add_argument("--full-page", action="store_true", help="whole pages instead of one screen")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of the browser")
    parser.add_argument("pages", nargs="*", choices=[*PAGES, []], help="default: all")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with product_of(arguments) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=CHROMIUM_FLAGS)
        take(browser, url=url, arguments=arguments)
        browser.close()


if __name__ == "__main__":
    main()
