"""One run in full: what went in, with which settings, what came out, what it said."""

import json
import os
from dataclasses import dataclass
from typing import Any

from training.core.alarms import step_alarms
from training.core.loss_course import preference_scale
from training.core.run.config import OptimizerSettings
from training.evaluation.words import with_minus
from training.models import Run
from training.selectors.metrics import latest_steps, run_directory

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
            return with_minus(f"{self.value:.4g}")
        if isinstance(self.value, bool) or self.value is None:
            return {True: "yes", False: "no", None: "–"}[self.value]
        return ", ".join(map(str, self.value)) if isinstance(self.value, list) else str(self.value)


@dataclass(frozen=True)
class Alarm:
    """What goes, or went, wrong in a run: its name, and a sentence with the figures and what helps."""

    name: str
    sentence: str


@dataclass(frozen=True)
class RunDetails:
    run: Run
    settings: list[Setting]
    receipt: list[Setting]
    result: list[Setting]
    rules: list[str]
    alarms: list[Alarm]


def run_details(run: Run) -> RunDetails:
    """Return what is shown of a run beside its curves; makes no query."""
    return RunDetails(
        run=run,
        settings=flat_settings(run.config),
        receipt=receipt_lines(run.receipt),
        result=flat_settings(run.result or {}),
        rules=run.receipt.get("rule_words", []),
        alarms=run_alarms(run),
    )


def run_alarms(run: Run) -> list[Alarm]:
    """Return what the trainer warned of at the end; before the last look, what the latest steps warn of."""
    ended = [alarm(text) for text in (run.result or {}).get("warnings", [])]
    if run.result and run.result.get("train_margin") is not None:
        return ended
    named = {one.name for one in ended}
    return ended + [one for one in _step_alarms(run) if one.name not in named]


def _step_alarms(run: Run) -> list[Alarm]:
    steps = latest_steps(run)
    if not steps:
        return []
    usual = OptimizerSettings.pairs_per_step
    pairs_per_step = run.config.get("optimizer", {}).get("pairs_per_step", usual)
    scale = preference_scale(run.config.get("loss", {}))
    found = step_alarms(steps[0], steps[1:], pairs_per_step=pairs_per_step, scale=scale)
    return [alarm(text) for text in found]


def alarm(text: str) -> Alarm:
    """Return a warning of the trainer, "name: what and what helps", in its two parts."""
    name, colon, rest = with_minus(text).partition(": ")
    if not colon:
        return Alarm("Warning", f"{with_minus(text)}.")
    return Alarm(name[:1].upper() + name[1:], f"{rest[:1].upper()}{rest[1:]}.")


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
    "even": "of them even, at p = ½",
    "soft": "of them with a soft label",
    "left_out.weak": "left out: weak preferences",
    "left_out.near_duplicates": "left out: near-duplicates",
    "left_out.older_rounds": "left out: of earlier rounds",
    "check_labels": "Labels on practice, gold and repeated pairs, left out",
    "edits": "Edits by annotators, preferred to what they edited",
    "resolved_by_lead": "Pairs decided by a lead",
    "ignored_labels": "Labels of people who are left out",
    "labels": "Labels in all",
    "simulated_labels": "of them simulated",
    "simulated_rules": "simulated by rule",
}
# Shown only where they are not 0, and what is shown elsewhere.
RARE = {
    RECEIPT_WORDS[key]
    for key in (
        "even",
        "soft",
        "left_out.weak",
        "left_out.near_duplicates",
        "left_out.older_rounds",
        "check_labels",
    )
}
KEPT_APART = ("rounds", "note", "rules", "rule_words")


def receipt_lines(receipt: dict[str, Any]) -> list[Setting]:
    """Return the receipt of a training set in words; rounds of which some were used get a line each."""
    plain = {key: value for key, value in receipt.items() if key not in KEPT_APART}
    lines = [Setting(RECEIPT_WORDS.get(line.key, line.key), line.value) for line in flat_settings(plain)]
    rounds = receipt.get("rounds", {})
    return [line for line in lines if line.value != [] and not (line.key in RARE and not line.value)] + [
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
