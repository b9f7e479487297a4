"""What a lead decides about a training set: which verdicts count, as what, and how much. Pure; no Django."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from training.core.run.config import SOFT_LABEL_LOSSES, TIE_LOSSES

DEFAULT_OLDER_WEIGHT = 0.5


class Ties(StrEnum):
    """What becomes of pairs that were judged equal."""

    LEARN = "learn"
    HALF = "half"
    LEAVE_OUT = "leave_out"


class BothBad(StrEnum):
    """What becomes of pairs of which both responses were called bad."""

    LEAVE_OUT = "leave_out"
    TIE = "tie"


class Strength(StrEnum):
    """What grades of strength (1 … 4) do."""

    ALIKE = "alike"
    WEIGH = "weigh"
    CLEAR = "clear"


class Aggregation(StrEnum):
    """How the votes of several people become one label."""

    MAJORITY = "majority"
    SHARE = "share"
    RELIABILITY = "reliability"


class Edits(StrEnum):
    """What an annotator's better text is preferred to."""

    ORIGINAL = "original"
    BOTH = "both"
    LEAVE_OUT = "leave_out"


@dataclass(frozen=True)
class Rules:
    """The rules of one training set.

    `ties` LEARN uses ties as ties where the loss has a model of them and leaves them out elsewhere; HALF
    trains them with p = ½. `strength` WEIGH gives a pair its mean grade / 4 as weight, CLEAR leaves out means
    below 3. `older_weight` is what pairs of earlier rounds weigh beside 1 for the newest (0: left out),
    once more for each round further back when it `fades`. Pairs whose responses share at least
    `most_alike` of their words are left out (None: none). `annotators_left_out` are user ids.
    """

    ties: Ties = Ties.LEARN
    both_bad: BothBad = BothBad.LEAVE_OUT
    strength: Strength = Strength.ALIKE
    aggregation: Aggregation = Aggregation.MAJORITY
    edits: Edits = Edits.ORIGINAL
    older_weight: float = DEFAULT_OLDER_WEIGHT
    fades: bool = False
    most_alike: float | None = None
    annotators_left_out: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.older_weight <= 1:
            raise ValueError(
                f"Weight of older rounds = {self.older_weight:g} must lie between 0 and 1; "
                f"{DEFAULT_OLDER_WEIGHT:g} is usual."
            )
        if self.most_alike is not None and not 0 < self.most_alike <= 1:
            raise ValueError(
                f"Shared words = {self.most_alike:g} must lie above 0 and up to 1; 0.9 leaves out pairs "
                "that are nearly the same."
            )

    @property
    def is_soft(self) -> bool:
        """Whether labels become probabilities."""
        return self.aggregation != Aggregation.MAJORITY

    def weight_of(self, batch: int, *, newest: int) -> float:
        """Return what a pair of a round weighs in the training set of round `newest`."""
        age = newest - batch
        if age <= 0:
            return 1.0
        return float(self.older_weight ** (age if self.fades else 1))

    def as_json(self) -> dict[str, Any]:
        """Return the rules as a recipe and a receipt keep them."""
        return {**asdict(self), "annotators_left_out": list(self.annotators_left_out)}


def rules_from_json(values: Mapping[str, Any]) -> Rules:
    """Return kept rules; what is missing is as usual. Raises ValueError for a value that no rule has."""
    kinds = {
        "ties": Ties,
        "both_bad": BothBad,
        "strength": Strength,
        "aggregation": Aggregation,
        "edits": Edits,
        "annotators_left_out": tuple,
    }
    known = [field.name for field in fields(Rules)]
    unknown = [name for name in values if name not in known]
    if unknown:
        raise ValueError(f"{', '.join(unknown)} is no rule of a training set; known are {', '.join(known)}")
    return Rules(**{name: kinds.get(name, lambda kept: kept)(value) for name, value in values.items()})


def rule_faults(rules: Rules, *, loss: str) -> dict[str, str]:
    """Return which rules the loss cannot follow, a sentence each; the loss is named as in config.json."""
    if loss in SOFT_LABEL_LOSSES:
        return {}
    remedy = f"the loss {loss} knows only sure labels; take {', '.join(SOFT_LABEL_LOSSES)}"
    faults = {}
    if rules.is_soft:
        faults["aggregation"] = f"Soft labels cannot be trained: {remedy}, or the majority."
    if rules.ties == Ties.HALF:
        faults["ties"] = f"Ties at p = ½ cannot be trained: {remedy}, or leave ties out."
    return faults


def rule_words(rules: Rules, *, loss: str, people: Mapping[int, str]) -> list[str]:
    """Return the rules as sentences for a receipt; `people` names the annotators by id."""
    return [
        _ties(rules, loss=loss),
        {
            BothBad.LEAVE_OUT: "Pairs of which both are bad are left out.",
            BothBad.TIE: "Pairs of which both are bad count as ties.",
        }[rules.both_bad],
        {
            Aggregation.MAJORITY: "The majority of a pair's votes decides.",
            Aggregation.SHARE: "A label is the share of votes for the chosen response.",
            Aggregation.RELIABILITY: "A label is the probability that the chosen response is the better one, "
            "votes weighed by how reliable each annotator is (Dawid–Skene).",
        }[rules.aggregation],
        {
            Strength.ALIKE: "Grades of strength do not count.",
            Strength.WEIGH: "A pair weighs by its mean grade of strength: 1 for significantly better, ¼ for "
            "negligibly.",
            Strength.CLEAR: "Pairs whose mean grade is below “better” are left out.",
        }[rules.strength],
        {
            Edits.ORIGINAL: "An edit is preferred to the response it was made of.",
            Edits.BOTH: "An edit is preferred to both responses.",
            Edits.LEAVE_OUT: "Edits are left out.",
        }[rules.edits],
        _older(rules),
        "Pairs of nearly equal responses stay."
        if rules.most_alike is None
        else f"Pairs whose responses share {rules.most_alike:.0%} of their words or more are left out.",
        *(f"Left out: {people.get(user, f'user {user}')}." for user in rules.annotators_left_out),
    ]


def _ties(rules: Rules, *, loss: str) -> str:
    if rules.ties == Ties.HALF:
        return "Ties are trained with p = ½."
    if rules.ties == Ties.LEARN and loss in TIE_LOSSES:
        return "Ties are trained as ties."
    return "Ties are left out."


def _older(rules: Rules) -> str:
    if rules.older_weight == 0:
        return "Only pairs of the newest round are used."
    fading = ", once more for each round further back" if rules.fades else ""
    return f"Pairs of earlier rounds weigh {rules.older_weight:g}{fading}."
