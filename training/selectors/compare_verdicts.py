"""What was said of two policies on held-out prompts, from the blind evaluation pairs."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

from annotate.models import Pair, Preference, Split, Study, Verdict
from training.evaluation.judges import judges_in_words
from training.evaluation.outcomes import Tally
from training.models import Policy
from training.selectors.compare_query import Columns


@dataclass(frozen=True)
class Votes:
    """Verdicts on one prompt between two policies; `level` counts ties and “both are bad”.

    `rules` names the rule of each of them that a simulated annotator gave.
    """

    before: int = 0
    after: int = 0
    level: int = 0
    rules: tuple[str, ...] = ()

    @property
    def judges(self) -> str:
        """Return who gave these verdicts, in words."""
        tally = Tally(self.after, self.before, self.level)
        return judges_in_words(
            replace(tally, simulated=len(self.rules), rules=tuple(sorted(set(self.rules))))
        )

    @property
    def total(self) -> int:
        return self.before + self.after + self.level

    @property
    def balance(self) -> float:
        """From −1 (everybody prefers the first policy) to 1 (everybody prefers the second)."""
        return (self.after - self.before) / self.total if self.total else 0.0

    def are(self, wanted: str) -> bool:
        """Return whether the votes are what a filter of `compare_query.VERDICTS` asks for."""
        matches = {
            "": True,
            "judged": self.total > 0,
            "after": self.balance > 0,
            "before": self.balance < 0,
            "even": self.total > 0 and self.balance == 0,
            "none": self.total == 0,
        }
        return matches[wanted]


NO_VOTES = Votes()


def votes_by_prompt(study: Study, *, columns: Columns) -> dict[int, Votes]:
    """Return the votes between the two compared policies by prompt id: one query."""
    if columns.compared is None:
        return {}
    before, after = columns.compared
    votes: dict[int, Votes] = defaultdict(Votes)
    for prompt, verdict, rule, policy_a, policy_b in judged_rows(study, policies=[before, after]):
        if {policy_a, policy_b} == {before.pk, after.pk}:
            seen = counted(votes[prompt], verdict=verdict, a_is_after=policy_a == after.pk)
            votes[prompt] = replace(seen, rules=(*seen.rules, rule)) if rule else seen
    return votes


def judged_rows(study: Study, *, policies: list[Policy]) -> list[tuple[int, str, str, int, int]]:
    """Return (prompt id, verdict, rule, policy id of A, policy id of B) of each verdict between policies.

    The rule is that of a simulated annotator, empty where a person judged.
    """
    preferences = Preference.objects.filter(
        pair__study=study,
        pair__purpose=Pair.Purpose.EVALUATE,
        pair__prompt__split=Split.HELDOUT,
        pair__response_a__sampled__policy__in=policies,
        pair__response_b__sampled__policy__in=policies,
    ).exclude(pair__state=Pair.State.WITHDRAWN)
    return list(
        preferences.order_by().values_list(
            "pair__prompt_id",
            "verdict",
            "simulated_rule",
            "pair__response_a__sampled__policy_id",
            "pair__response_b__sampled__policy_id",
        )
    )


def counted(votes: Votes, *, verdict: str, a_is_after: bool) -> Votes:
    if verdict not in (Verdict.A, Verdict.B):
        return replace(votes, level=votes.level + 1)
    if (verdict == Verdict.A) == a_is_after:
        return replace(votes, after=votes.after + 1)
    return replace(votes, before=votes.before + 1)
