"""Verdicts on blind pairs, added up by the database: one row a pair, whatever the number of labels."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.db.models import Count, Max, Q

from annotate.models import Membership, Pair, Preference, Study, Verdict
from training.evaluation.outcomes import Outcome
from training.models import EvaluationPair

# The batch of evaluation pairs: they belong to no round, and no round's freezing ends them.
NO_ROUND = 0


@dataclass(frozen=True)
class Verdicts:
    """Every comparison of a study's policies; `waiting` pairs are in the queue without a verdict."""

    outcomes: tuple[Outcome, ...]
    waiting: int
    simulated: int

    @cached_property
    def by_policy(self) -> dict[int, list[Outcome]]:
        found: dict[int, list[Outcome]] = defaultdict(list)
        for row in self.outcomes:
            found[row.policy].append(row)
        return found

    def of(self, policy: int) -> list[Outcome]:
        """Return the outcomes of one policy."""
        return self.by_policy.get(policy, [])


@dataclass(frozen=True)
class Edition:
    """Which state of a study's evaluation the rows are in: equal editions have the same verdicts."""

    study: int
    slug: str
    pairs: tuple[int, int | None, int]
    verdicts: tuple[int, int | None, datetime | None]
    left_out: tuple[int, ...]


def edition_of(study: Study) -> Edition:
    """Return the present edition: three queries that read no verdict one by one."""
    left_out = Membership.objects.filter(study=study, in_training_sets=False).order_by("user")
    pairs = EvaluationPair.objects.filter(study=study).aggregate(
        count=Count("pk"), newest=Max("pk"), gone=Count("pk", filter=Q(pair__state=Pair.State.WITHDRAWN))
    )
    given = Preference.objects.filter(
        pair__study=study, pair__batch=NO_ROUND, pair__purpose=Pair.Purpose.EVALUATE
    ).aggregate(count=Count("pk"), newest=Max("pk"), changed=Max("updated_at"))
    return Edition(
        study=study.pk,
        slug=study.slug,
        pairs=(pairs["count"], pairs["newest"], pairs["gone"]),
        verdicts=(given["count"], given["newest"], given["changed"]),
        left_out=tuple(left_out.values_list("user", flat=True)),
    )


def study_verdicts(edition: Edition) -> Verdicts:
    """Return the verdicts on all evaluation pairs of the edition's study: one query.

    Verdicts of people who are left out of training sets count here neither; withdrawn pairs do not count.
    """
    given = ~Q(pair__preferences__annotator__in=edition.left_out)
    a_is_better = Q(pair__preferences__verdict=Verdict.A)
    b_is_better = Q(pair__preferences__verdict=Verdict.B)
    own, other = Q(policy_is_a=True), Q(policy_is_a=False)
    counted = {
        "wins": Count("pair__preferences", filter=given & ((own & a_is_better) | (other & b_is_better))),
        "losses": Count("pair__preferences", filter=given & ((own & b_is_better) | (other & a_is_better))),
        "ties": Count("pair__preferences", filter=given & Q(pair__preferences__verdict=Verdict.TIE)),
        "both_bad": Count("pair__preferences", filter=given & Q(pair__preferences__verdict=Verdict.BOTH_BAD)),
        "simulated": Count("pair__preferences", filter=given & ~Q(pair__preferences__simulated_rule="")),
    }
    named = ("policy_id", "opponent_id", "prompt_id", "pair_id", "policy_tokens", "opponent_tokens")
    rows = (
        EvaluationPair.objects.filter(study=edition.study)
        .exclude(pair__state=Pair.State.WITHDRAWN)
        .order_by()
        .annotate(**counted)
        .values_list(*named, *counted)
    )
    outcomes, waiting, simulated = [], 0, 0
    for policy, opponent, prompt, pair, own_tokens, other_tokens, *counts in rows:
        wins, losses, ties, both_bad, by_rule = counts
        identical = pair is None
        waiting += not identical and not (wins + losses + ties + both_bad)
        simulated += by_rule
        length = own_tokens - other_tokens
        # By position: twice as fast, and there may be tens of thousands.
        outcomes.append(
            Outcome(policy, opponent, prompt, wins, losses, ties + identical, both_bad, identical, length)
        )
    return Verdicts(outcomes=tuple(outcomes), waiting=waiting, simulated=simulated)
