"""Which two of several responses people compare. Pure; the same responses always give the same pair."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from training.models import Recipe

RANDOM, MARGIN, LENGTH = Recipe.PairChoice.values


@dataclass(frozen=True)
class Candidate:
    """A response; `log_ratio` is log π − log π_ref of its tokens in nats, None where it is not known."""

    slot: int
    text: str
    tokens: int
    log_ratio: float | None = None


@dataclass(frozen=True)
class Choice:
    """The slots of a pair in their order, and how they were picked: `rule` is the one that decided."""

    first: int
    second: int
    rule: str
    candidates: int
    margin: float | None


def choose_pair(responses: Sequence[Candidate], *, rule: str, random_share: float, key: str) -> Choice | None:
    """Return the pair to compare; None when all responses are the same.

    With the chance `random_share` the pair is drawn at random, so that part of the labels is about the policy
    as it is. By margin it is the two whose implicit rewards are closest, where labels tell the policy most;
    by length the two of closest length. Equal ones are settled by the draw that `key` fixes.
    """
    different = distinct(responses)
    pairs = list(combinations(different, 2))
    if not pairs:
        return None
    applied = RANDOM if is_in_random_share(key, share=random_share) else rule
    if applied == MARGIN and not tells_apart(different):
        applied = RANDOM
    first, second = min(pairs, key=lambda pair: (distance(pair, rule=applied), draw(key, pair)))
    margin = (
        abs(first.log_ratio - second.log_ratio)
        if first.log_ratio is not None and second.log_ratio is not None
        else None
    )
    return Choice(first.slot, second.slot, rule=applied, candidates=len(different), margin=margin)


def is_in_random_share(key: str, *, share: float) -> bool:
    """Return whether the pair of this prompt is drawn at random, whatever the rule."""
    return fraction(f"{key}:share") < share


def distinct(responses: Sequence[Candidate]) -> list[Candidate]:
    """Return the responses that a person can tell apart, the first of each text, in the order of slots."""
    by_text: dict[str, Candidate] = {}
    for response in sorted(responses, key=lambda one: one.slot):
        by_text.setdefault(response.text.strip(), response)
    return list(by_text.values())


def tells_apart(responses: Sequence[Candidate]) -> bool:
    """Return whether log-ratios say anything: under the reference itself each is 0."""
    ratios = {response.log_ratio for response in responses}
    return None not in ratios and len(ratios) > 1


def distance(pair: tuple[Candidate, Candidate], *, rule: str) -> float:
    one, other = pair
    if rule == LENGTH:
        return abs(one.tokens - other.tokens)
    if rule == MARGIN and one.log_ratio is not None and other.log_ratio is not None:
        return abs(one.log_ratio - other.log_ratio)
    return 0.0


def draw(key: str, pair: tuple[Candidate, Candidate]) -> float:
    return fraction(f"{key}:{pair[0].slot}:{pair[1].slot}")


def fraction(text: str) -> float:
    """Return a number in [0, 1) that only depends on the text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48
