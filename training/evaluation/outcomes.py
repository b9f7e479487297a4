"""What was said of two policies, prompt by prompt; every statistic starts from these rows. No Django."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Outcome(NamedTuple):
    """The verdicts on one blind pair of a policy's and its opponent's response.

    Counts of verdicts; `ties` has ½ of a win each. Identical texts are one tie that nobody was asked for.
    `rules` names the rule of each verdict that a simulated annotator gave. A tuple, since a page makes tens
    of thousands of them.
    """

    policy: int
    opponent: int
    prompt: int
    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0
    identical: bool = False
    length_difference: int = 0
    rules: tuple[str, ...] = ()

    @property
    def judged(self) -> int:
        """Verdicts that a win rate can use; "both are bad" compares nothing and is stated separately."""
        return self.wins + self.losses + self.ties

    @property
    def points(self) -> float:
        """Wins, with half a point per tie."""
        return self.wins + self.ties / 2


@dataclass(frozen=True)
class Tally:
    """Verdicts on one policy against one opponent, all prompts together.

    `simulated` of them came from annotators that follow one of the `rules`.
    """

    wins: int = 0
    losses: int = 0
    ties: int = 0
    both_bad: int = 0
    identical: int = 0
    prompts: int = 0
    simulated: int = 0
    rules: tuple[str, ...] = ()

    @property
    def verdicts(self) -> int:
        """Return how many verdicts were given, by people or by rules."""
        return self.wins + self.losses + self.ties + self.both_bad - self.identical

    @property
    def by_people(self) -> int:
        return self.verdicts - self.simulated

    @property
    def judged(self) -> int:
        return self.wins + self.losses + self.ties


def tally_of(outcomes: Iterable[Outcome]) -> Tally:
    """Add the outcomes up; `prompts` counts those with something a win rate can use."""
    wins = losses = ties = both_bad = identical = simulated = 0
    prompts, rules = set(), set[str]()
    for row in outcomes:  # one pass: a page adds up thousands
        wins += row.wins
        losses += row.losses
        ties += row.ties
        both_bad += row.both_bad
        identical += row.identical
        if row.wins or row.losses or row.ties:
            prompts.add(row.prompt)
        if row.rules:
            simulated += len(row.rules)
            rules.update(row.rules)
    return Tally(
        wins, losses, ties, both_bad, identical, len(prompts), simulated=simulated, rules=tuple(sorted(rules))
    )


def shares_by_prompt(outcomes: Iterable[Outcome]) -> dict[int, float]:
    """Return each judged prompt's share of wins, ties at half: several votes on a prompt are one prompt."""
    points: dict[int, float] = defaultdict(float)
    judged: dict[int, int] = defaultdict(int)
    for row in outcomes:
        if row.judged:
            points[row.prompt] += row.points
            judged[row.prompt] += row.judged
    return {prompt: points[prompt] / judged[prompt] for prompt in sorted(judged)}
