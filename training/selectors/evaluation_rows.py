"""Verdicts on blind pairs, added up by the database: one row a pair, whatever the number of labels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property, lru_cache
from typing import NamedTuple

from django.db.models import Count, Max, Q, QuerySet, Sum

from annotate.models import Membership, Pair, Preference, Study, Verdict
from training.evaluation.outcomes import Outcome
from training.models import EvaluationPair

# The batch of evaluation pairs: they belong to no round, and no round's freezing ends them.
NO_ROUND = 0
NO_VOTES = (0,) * len(Verdict)


@dataclass(frozen=True)
class Verdicts:
    """Every comparison of a study's policies; `waiting` pairs are in the queue without a verdict."""

    outcomes: tuple[Outcome, ...]
    waiting: int

    @cached_property
    def by_policy(self) -> dict[int, list[Outcome]]:
        found: dict[int, list[Outcome]] = defaultdict(list)
        for row in self.outcomes:
            found[row.policy].append(row)
        return found

    def of(self, policy: int) -> list[Outcome]:
        """Return the outcomes of one policy."""
        return self.by_policy.get(policy, [])


class Compared(NamedTuple):
    """Which two policies a pair compares, on which prompt.

    `length` is by how many tokens the first's response is longer; `pair` is None where both are one text.
    """

    policy: int
    opponent: int
    prompt: int
    pair: int | None
    policy_is_a: bool
    length: int


@dataclass(frozen=True)
class PairsEdition:
    """Which evaluation pairs a study has: equal editions have the same ones, withdrawn or not."""

    study: int
    slug: str
    count: int
    newest: int | None
    gone: int
    gone_keys: int | None


@dataclass(frozen=True)
class Edition:
    """Which state of a study's evaluation the rows are in: equal editions have the same verdicts."""

    pairs: PairsEdition
    verdicts: tuple[int, int | None, datetime | None]
    left_out: tuple[int, ...]


def edition_of(study: Study) -> Edition:
    """Return the present edition: three queries that read no verdict one by one."""
    left_out = Membership.objects.filter(study=study, in_training_sets=False).order_by("user")
    pairs = EvaluationPair.objects.filter(study=study).aggregate(
        count=Count("pk"),
        newest=Max("pk"),
        gone=Count("pk", filter=Q(pair__state=Pair.State.WITHDRAWN)),
        gone_keys=Sum("pk", filter=Q(pair__state=Pair.State.WITHDRAWN)),
    )
    given = evaluation_labels(study.pk).aggregate(
        count=Count("pk"), newest=Max("pk"), changed=Max("updated_at")
    )
    return Edition(
        pairs=PairsEdition(study=study.pk, slug=study.slug, **pairs),
        verdicts=(given["count"], given["newest"], given["changed"]),
        left_out=tuple(left_out.values_list("user", flat=True)),
    )


def study_verdicts(edition: Edition) -> Verdicts:
    """Return the verdicts on all evaluation pairs of the edition's study: two queries, or one.

    Verdicts of people who are left out of training sets count here neither; withdrawn pairs do not count.
    """
    votes, rules = votes_by_pair(edition)
    outcomes = []
    for policy, opponent, prompt, pair, policy_is_a, length in compared_pairs(edition.pairs):
        a, b, ties, both_bad = votes.get(pair, NO_VOTES) if pair else NO_VOTES
        identical = pair is None
        wins, losses = (a, b) if policy_is_a else (b, a)
        given = (wins, losses, ties + identical, both_bad)
        # By position: twice as fast, and there may be tens of thousands.
        named = tuple(rules.get(pair, ())) if pair else ()
        outcomes.append(Outcome(policy, opponent, prompt, *given, identical, length, named))
    waiting = sum(not any(outcome[3:7]) for outcome in outcomes)
    return Verdicts(outcomes=tuple(outcomes), waiting=waiting)


# Read again when pairs come or go, not with every verdict.
@lru_cache(maxsize=32)
def compared_pairs(edition: PairsEdition) -> tuple[Compared, ...]:
    """Return the evaluation pairs that were not withdrawn: one query."""
    named = ("policy_id", "opponent_id", "prompt_id", "pair_id", "policy_is_a")
    rows = (
        EvaluationPair.objects.filter(study=edition.study)
        .exclude(pair__state=Pair.State.WITHDRAWN)
        .order_by()
        .values_list(*named, "policy_tokens", "opponent_tokens")
    )
    return tuple(
        Compared(policy, opponent, prompt, pair, policy_is_a, own_tokens - other_tokens)
        for policy, opponent, prompt, pair, policy_is_a, own_tokens, other_tokens in rows
    )


def votes_by_pair(edition: Edition) -> tuple[dict[int, list[int]], dict[int, list[str]]]:
    """Return by pair the votes in the order of `Verdict`, and the rules that gave some of them: one query.

    Added up here: the database takes twice as long to group them.
    """
    place = {verdict.value: number for number, verdict in enumerate(Verdict)}
    votes: dict[int, list[int]] = defaultdict(lambda: [0] * len(place))
    rules: dict[int, list[str]] = defaultdict(list)
    given = evaluation_labels(edition.pairs.study).exclude(annotator__in=edition.left_out)
    for pair, verdict, rule in given.order_by().values_list("pair", "verdict", "simulated_rule"):
        votes[pair][place[verdict]] += 1
        if rule:
            rules[pair].append(rule)
    return votes, rules


def evaluation_labels(study: int) -> QuerySet[Preference]:
    return Preference.objects.filter(
        pair__study=study, pair__batch=NO_ROUND, pair__purpose=Pair.Purpose.EVALUATE
    )
