"""axe-core in the real browser: what hinders people who use a screen reader or only a keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Page

SOURCE = Path(__file__).resolve().parent / "axe-4.14.1" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
GRAVE = ("serious", "critical")
# In the dark only colours differ.
RULES_BY_SCHEME = {"light": RULES, "dark": ["color-contrast"]}


def grave_findings(page: Page) -> list[str]:
    """Return the serious and critical findings on the page as it is, in light and dark, one line each."""
    found: list[str] = []
    # Straight into the page's context, which the content security policy does not concern.
    page.evaluate(SOURCE.read_text(encoding="utf-8"))
    for scheme, rules in RULES_BY_SCHEME.items():
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        options: dict[str, Any] = {"runOnly": rules, "resultTypes": ["violations"]}
        results = page.evaluate("options => axe.run(document, options)", options)
        grave = [violation for violation in results["violations"] if violation["impact"] in GRAVE]
        found += [
            f"{scheme} {violation['id']}: {node['html'][:200]} {node['failureSummary']}"
            for violation in grave
            for node in violation["nodes"]
        ]
    return found
