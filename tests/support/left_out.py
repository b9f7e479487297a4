"""A pytest plugin: tests whose real part is missing here are left out, and the end of the run says so."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.chromium import chromium_path


def reasons() -> dict[str, str]:
    """Return, per marker whose tests cannot run here, what is missing and how to get it."""
    missing = {}
    if chromium_path() is None:
        missing["browser"] = "no Chromium was found; install it (Debian, Ubuntu: apt install chromium)"
    if importlib.util.find_spec("vllm") is None:
        missing["engine"] = "vLLM is not installed; run the tests by `make test`"
    return missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for marker, reason in reasons().items():
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Counted from the reports, which also come from the processes that share the tests among them.
    skipped = [str(report.longrepr) for report in terminalreporter.stats.get("skipped", [])]
    for reason in reasons().values():
        if count := sum(reason in text for text in skipped):
            terminalreporter.section("TESTS WERE LEFT OUT", red=True, bold=True)
            terminalreporter.line(f"{count} tests did not run: {reason}.", red=True, bold=True)
