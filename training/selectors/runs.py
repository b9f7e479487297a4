"""One run in full: what went in, with which settings, what came out, what it said."""

import json
import os
from dataclasses import dataclass
from typing import Any

from training.models import Run
from training.selectors.metrics import run_directory

LOG_FILE = "train.log"
LOG_TAIL_BYTES = 16_000


@dataclass(frozen=True)
class Setting:
    """A line of a run's config, under its key in config.json."""

    key: str
    value: Any

    @property
    def shown(self) -> str:
        if isinstance(self.value, float):
            return f"{self.value:.4g}"
        if isinstance(self.value, bool) or self.value is None:
            return {True: "yes", False: "no", None: "–"}[self.value]
        return ", ".join(map(str, self.value)) if isinstance(self.value, list) else str(self.value)


@dataclass(frozen=True)
class RunDetails:
    run: Run
    settings: list[Setting]
    receipt: list[Setting]
    result: list[Setting]


def run_details(run: Run) -> RunDetails:
    """Return what the run's page shows beside the curves; makes no query."""
    return RunDetails(
        run=run,
        settings=flat_settings(run.config),
        receipt=receipt_lines(run.receipt),
        result=flat_settings(run.result or {}),
    )


def flat_settings(values: dict[str, Any], *, prefix: str = "") -> list[Setting]:
    """Return nested settings as lines, keys joined by dots, in their order."""
    lines: list[Setting] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += flat_settings(value, prefix=f"{prefix}{key}.")
        else:
            lines.append(Setting(f"{prefix}{key}", value))
    return lines


RECEIPT_WORDS = {
    "usable": "Preferences trained on",
    "ties_used": "of them ties",
    "left_out.ties": "left out: ties",
    "left_out.both_bad": "left out: both bad",
    "left_out.conflicts": "left out: votes without a majority",
    "left_out.unlabelled": "not labelled",
    "left_out.left_out_by_lead": "left out by a lead",
    "edits": "Edits by annotators, preferred to what they edited",
    "resolved_by_lead": "Pairs decided by a lead",
    "ignored_labels": "Labels of people who are left out",
    "labels": "Labels in all",
    "simulated_labels": "of them simulated",
    "simulated_rules": "simulated by rule",
}


def receipt_lines(receipt: dict[str, Any]) -> list[Setting]:
    """Return the receipt of a training set in words; rounds of which some were used get a line each."""
    plain = {key: value for key, value in receipt.items() if key not in ("rounds", "note")}
    lines = [Setting(RECEIPT_WORDS.get(line.key, line.key), line.value) for line in flat_settings(plain)]
    rounds = receipt.get("rounds", {})
    return [line for line in lines if line.value != []] + [
        Setting(f"from round {number}, weight {part['weight']:g}", part["usable"])
        for number, part in rounds.items()
    ]


def log_tail(run: Run) -> str:
    """Return the last part of the run's log from the start of a line; empty before there is one."""
    try:
        with (run_directory(run) / LOG_FILE).open("rb") as log:
            log.seek(0, os.SEEK_END)
            start = max(0, log.tell() - LOG_TAIL_BYTES)
            log.seek(start)
            tail = log.read()
    except FileNotFoundError:
        return ""
    if start:
        tail = tail.partition(b"\n")[2]
    return "\n".join(map(_said, tail.decode("utf-8", errors="replace").split("\n")))


def _said(line: str) -> str:
    """Return what a line of the trainer says; it writes JSON objects with a `message`."""
    if not line.startswith('{"message"'):
        return line
    try:
        return str(json.loads(line)["message"])
    except (ValueError, KeyError):
        return line
