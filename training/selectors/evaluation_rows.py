"""Verdicts on blind pairs, added up by the database: one row a pair, whatever the number of labels."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Count, Q

from annotate.models import Membership, Pair, Study, Verdict
from training.evaluation.outcomes import Outcome
from training.models import EvaluationPair


@dataclass(frozen=True)
class Verdicts:
    """Every comparison of a study's policies; `waiting` pairs are in the queue without a verdict."""

    outcomes: tuple[Outcome, ...]
    waiting: int
    simulated: int

    def of(self, policy: int, *, opponent: int | None = None) -> tuple[Outcome, ...]:
        """Return the outcomes of one policy, against one opponent or all."""
        return tuple(
            row for row in self.outcomes if row.policy == policy and opponent in (None, row.opponent)
        )


def study_verdicts(study: Study) -> Verdicts:
    """Return the verdicts on all evaluation pairs of the study: two queries.

    Verdicts of people who are left out of training sets count here neither; withdrawn pairs do not count.
    """
    left_out = Membership.objects.filter(study=study, in_training_sets=False).values_list("user", flat=True)
    given = ~Q(pair__preferences__annotator__in=list(left_out))
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
        EvaluationPair.objects.filter(study=study)
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
        outcomes.append(
            Outcome(
                policy=policy,
                opponent=opponent,
                prompt=prompt,
                wins=wins,
                losses=losses,
                ties=ties + identical,
                both_bad=both_bad,
                identical=identical,
                length_difference=own_tokens - other_tokens,
            )
        )
    return Verdicts(outcomes=tuple(outcomes), waiting=waiting, simulated=simulated)
