"""What went into a training set and what was left out, and why: counts with names. Pure; no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from training.training_set.decide import Outcome


@dataclass(frozen=True)
class Line:
    """One count with its name; `outcome` names the pairs behind it, None where it counts something else."""

    name: str
    count: int
    outcome: Outcome | None = None
    is_left_out: bool = False


@dataclass(frozen=True)
class Receipt:
    """All counts of pairs but the labels'.

    `counts` has the pairs by what became of them. `soft` of the preferences have a label below 1; `edits` are
    the examples that annotators wrote, `resolved` the pairs that a lead's verdict decided. `labels` are the
    labels that count, `simulated` those of them by the rule they were made by, `ignored_labels` those of
    people who are left out, `check_labels` those on practice, gold and repeated pairs.
    """

    counts: Mapping[Outcome, int]
    labels: int
    simulated: Mapping[str, int] = field(default_factory=dict)
    soft: int = 0
    edits: int = 0
    resolved: int = 0
    ignored_labels: int = 0
    check_labels: int = 0
    usable_per_round: Mapping[int, int] = field(default_factory=dict)
    weight_per_round: Mapping[int, float] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    rule_words: tuple[str, ...] = ()

    @property
    def usable(self) -> int:
        """Pairs that are examples."""
        return sum(self.of(outcome) for outcome in Outcome if outcome.is_example)

    @property
    def examples(self) -> int:
        return self.usable + self.edits

    @property
    def simulated_labels(self) -> int:
        return sum(self.simulated.values())

    @property
    def note(self) -> str:
        """Return a sentence about simulated labels, or nothing when people gave them all."""
        if not self.simulated:
            return ""
        rules = ", ".join(sorted(self.simulated))
        return f"{self.simulated_labels} of {self.labels} labels are simulated (rule {rules})."

    def of(self, outcome: Outcome) -> int:
        """Return how many pairs came to this."""
        return self.counts.get(outcome, 0)

    def lines(self) -> list[Line]:
        """Return every count that is not 0 with its name, what is used first."""
        used = [
            Line("preferences kept", self.of(Outcome.PREFERENCE), Outcome.PREFERENCE),
            Line("of them with a soft label", self.soft),
            Line("ties as ties", self.of(Outcome.TIE), Outcome.TIE),
            Line("even pairs at p = ½", self.of(Outcome.HALF), Outcome.HALF),
            Line("edits, preferred to what they edited", self.edits),
        ]
        left_out = [
            Line(name, self.of(outcome), outcome, is_left_out=True) for outcome, name in LEFT_OUT.items()
        ]
        labels = [
            Line("labels of people who are left out", self.ignored_labels, is_left_out=True),
            Line("labels on practice, gold and repeated pairs", self.check_labels, is_left_out=True),
        ]
        return used[:1] + [line for line in used[1:] + left_out + labels if line.count]

    def sentence(self) -> str:
        """Return the lines as one sentence: what is kept, then what is left out."""
        used = [f"{line.count} {line.name}" for line in self.lines() if not line.is_left_out]
        left_out = [f"{line.count} {line.name}" for line in self.lines() if line.is_left_out]
        return "; ".join(used) + (f"; left out: {', '.join(left_out)}." if left_out else ".")

    def as_json(self) -> dict[str, Any]:
        """Return the receipt as `Run.receipt` keeps it."""
        return {
            "usable": self.usable,
            "left_out": {key: self.of(outcome) for key, outcome in KEYS.items()},
            "ties_used": self.of(Outcome.TIE),
            "even": self.of(Outcome.HALF),
            "soft": self.soft,
            "edits": self.edits,
            "resolved_by_lead": self.resolved,
            "ignored_labels": self.ignored_labels,
            "check_labels": self.check_labels,
            "labels": self.labels,
            "simulated_labels": self.simulated_labels,
            "simulated_rules": sorted(self.simulated),
            "rounds": {
                str(number): {"usable": usable, "weight": self.weight_per_round[number]}
                for number, usable in sorted(self.usable_per_round.items())
            },
            "rules": dict(self.rules),
            "rule_words": list(self.rule_words),
            "note": self.note,
        }


LEFT_OUT = {
    Outcome.TIED: "ties",
    Outcome.BOTH_BAD: "both bad",
    Outcome.CONFLICTING: "conflicts",
    Outcome.WEAK: "weak preferences",
    Outcome.ALIKE: "near-duplicates",
    Outcome.OLDER: "of earlier rounds",
    Outcome.LEFT_OUT_BY_LEAD: "left out by a lead",
    Outcome.UNLABELLED: "not labelled",
}
KEYS = {
    "ties": Outcome.TIED,
    "both_bad": Outcome.BOTH_BAD,
    "conflicts": Outcome.CONFLICTING,
    "unlabelled": Outcome.UNLABELLED,
    "left_out_by_lead": Outcome.LEFT_OUT_BY_LEAD,
    "weak": Outcome.WEAK,
    "near_duplicates": Outcome.ALIKE,
    "older_rounds": Outcome.OLDER,
}
