"""A pytest plugin: tests whose real part is missing here are left out, and the end of the run says so."""

from __future__ import annotations

import importlib.util

import pytest

from tests.support.chromium import chromium_path

LEFT_OUT = pytest.StashKey[dict[str, int]]()


def reasons() -> dict[str, str]:
    """Return, per marker whose tests cannot run here, what is missing and how to get it."""
    missing = {}
    if chromium_path() is None:
        missing["browser"] = "no Chromium was found; install it (Debian, Ubuntu: apt install chromium)"
    if importlib.util.find_spec("vllm") is None:
        missing["engine"] = "vLLM is not installed; run the tests by `make test`"
    return missing


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    counts = config.stash.setdefault(LEFT_OUT, {})
    for marker, reason in reasons().items():
        for item in items:
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
                counts[reason] = counts.get(reason, 0) + 1


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for reason, count in config.stash.get(LEFT_OUT, {}).items():
        terminalreporter.section("TESTS WERE LEFT OUT", red=True, bold=True)
        terminalreporter.line(f"{count} tests did not run: {reason}.", red=True, bold=True)
