"""What a visitor of the comparison asked to see, and which policies that means."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlencode

from training.models import Policy

MOST_COLUMNS = 4
ORDERS = {
    "changed": "most changed first",
    "grown": "longest growth first",
    "worse": "judged worse first",
    "better": "judged better first",
    "prompt": "as imported",
}
VERDICTS = {
    "judged": "judged",
    "after": "the second is preferred",
    "before": "the first is preferred",
    "even": "judged level",
    "none": "not judged",
}


@dataclass(frozen=True)
class CompareQuery:
    """A link to the comparison. Policies are named by their numbers, so that it stays readable.

    `least` and `most` bound the words of the second compared policy's response.
    """

    policies: tuple[int, ...] = ()
    before: int | None = None
    after: int | None = None
    with_diff: bool = True
    sample: int = 1
    order: str = "changed"
    tag: str = ""
    text: str = ""
    verdict: str = ""
    least: int | None = None
    most: int | None = None
    page: int = 1

    @property
    def slot(self) -> int:
        return self.sample - 1

    @property
    def tag_link(self) -> str:
        """The tag as a query string, for the figures of the same prompts."""
        return urlencode({"tag": self.tag})

    @property
    def narrows(self) -> bool:
        """Whether the link asks for less than all held-out prompts."""
        bounded = self.least is not None or self.most is not None
        return bool(self.tag or self.text.strip() or self.verdict or bounded)


@dataclass(frozen=True)
class Columns:
    """The policies shown, and the two whose words are compared (None with a single column)."""

    policies: list[Policy]
    before: Policy | None
    after: Policy | None

    @property
    def are_compared(self) -> bool:
        return self.before is not None and self.after is not None and self.before != self.after

    @property
    def compared(self) -> tuple[Policy, Policy] | None:
        """The two different policies that are compared, or None."""
        if self.before is None or self.after is None or self.before == self.after:
            return None
        return self.before, self.after


def columns_of(policies: list[Policy], *, query: CompareQuery) -> Columns:
    """Return the columns that the query asks for, from all policies of the study in order."""
    shown = chosen_columns(policies, numbers=query.policies)
    if len(shown) < 2:
        return Columns(shown, None, None)
    by_number: dict[int | None, Policy] = {policy.number: policy for policy in shown}
    return Columns(shown, by_number.get(query.before, shown[0]), by_number.get(query.after, shown[-1]))


def chosen_columns(policies: list[Policy], *, numbers: tuple[int, ...]) -> list[Policy]:
    """Return the policies asked for; at first the SFT reference, the newest policy and the one before it."""
    chosen = [policy for policy in policies if policy.number in numbers]
    if chosen:
        return chosen[:MOST_COLUMNS]
    if len(policies) <= 3:
        return policies
    newest = policies[-1]
    parents = [policy for policy in policies[1:-1] if policy.pk == newest.parent_id]
    return [policies[0], (parents or policies[-2:-1])[0], newest]
