"""Take the pictures of the README from the running product: `make screenshots` while `make run` is up.

Every page is taken light and dark, 1280 and 390 pixels wide; the README shows the first of each.
"""

import argparse
import os
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

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
    "compare": ("lead", "/studies/{study}/compare/", ()),
    "study": ("lead", "/studies/{study}/", ()),
}
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def sign_in(page: Page, *, username: str) -> None:
    page.goto("/login/")
    page.click(f"button[value={username}]")


def take(browser: Browser, *, url: str, study: str, names: list[str], folder: Path) -> None:
    for theme in THEMES:
        for suffix, viewport in WIDTHS.items():
            for name in names:
                username, path, keys = PAGES[name]
                context = browser.new_context(base_url=url, viewport=viewport, color_scheme=theme)  # type: ignore[arg-type]
                page = context.new_page()
                sign_in(page, username=username)
                page.goto(path.format(study=study), wait_until="networkidle")
                for key in keys:
                    page.keyboard.press(key)
                page.screenshot(path=folder / f"{name}-{theme}{suffix}.png")
                context.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=f"http://127.0.0.1:{os.environ.get('PORT') or 8000}")
    parser.add_argument("--study", default="demo")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="path of the browser")
    parser.add_argument("pages", nargs="*", choices=[*PAGES, []], help="default: all")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=CHROMIUM_FLAGS)
        names = arguments.pages or list(PAGES)
        take(browser, url=arguments.url, study=arguments.study, names=names, folder=arguments.folder)
        browser.close()


if __name__ == "__main__":
    main()
