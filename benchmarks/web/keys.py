"""From the key press to the next pair on the screen, in a real browser: `python -m benchmarks.web.keys`.

The time runs from the event of the Enter key, as the browser stamps it, to the second animation frame after
the page holds another pair: by then the first one has been painted.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.web.server import prepare_database, prepare_study, web_server

NAMES = ("chromium", "chromium-browser", "google-chrome")
WATCH = """
window.waits = [];
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter") return;
  const shown = () => document.querySelector("[data-pair]")?.dataset.pair;
  const before = shown();
  const look = () => {
    if (shown() === before || !shown()) return requestAnimationFrame(look);
    requestAnimationFrame(() => requestAnimationFrame((now) => window.waits.push(now - event.timeStamp)));
  };
  requestAnimationFrame(look);
}, { capture: true });
"""
MEASURED = """count => new Promise((done) => {
  const look = () => (window.waits.length >= count ? done() : setTimeout(look, 5));
  look();
})"""


def key_to_pair(page: Page, *, labels: int, pause_ms: int) -> list[float]:
    """Label by keys alone; return the milliseconds from each Enter to the next pair on the screen."""
    page.evaluate(WATCH)
    for number in range(labels):
        page.keyboard.press("1" if number % 2 else "2")
        page.keyboard.press("Enter")
        page.evaluate(MEASURED, number + 1)
        page.wait_for_timeout(pause_ms)
    waits: list[float] = page.evaluate("window.waits")
    return waits


def measure_keys(home: Path, *, labels: int, pairs: int = 1000, pause_ms: int = 300) -> list[float]:
    """Start the product's server and a browser, and measure."""
    prepare_database(home)
    study = prepare_study(home, pairs=pairs, annotators=1)
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    with web_server(home) as server, sync_playwright() as playwright:
        url = f"http://127.0.0.1:{server.port}"
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        context = browser.new_context(base_url=url, viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": "sessionid", "value": study.sessions[0], "url": url}])
        page = context.new_page()
        page.goto(f"/studies/{study.slug}/label/")
        page.wait_for_load_state("networkidle")
        waits = key_to_pair(page, labels=labels, pause_ms=pause_ms)
        browser.close()
    return waits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-key-") as folder:
        waits = sorted(measure_keys(Path(folder), labels=options.labels))
    median, late = statistics.median(waits), waits[int(0.95 * len(waits))]
    print(f"key press to next pair on the screen: {len(waits)} labels, median {median:.0f} ms,", end=" ")
    print(f"p95 {late:.0f} ms, longest {waits[-1]:.0f} ms")


if __name__ == "__main__":
    main()
