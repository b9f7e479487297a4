"""What pairs come to under each rule, on votes small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.quality.vote_columns import LEFT_OUT, PLACE, UNDECIDED, VoteColumns
from training.training_set.decide import Decisions, Outcome, decide
from training.training_set.rules import (
    Aggregation,
    BothBad,
    Rules,
    Strength,
    Ties,
    rule_faults,
    rule_words,
    rules_from_json,
)

Pair = tuple[int, list[tuple[str, int]]]  # the round, and per vote the verdict and the grade (0: none)


def columns(*pairs: Pair, decisions: dict[int, int] | None = None) -> VoteColumns:
    """Each pair's votes come from annotators 0, 1, 2 … in order."""
    votes = [
        (place, annotator, PLACE[verdict], grade)
        for place, (_, said) in enumerate(pairs)
        for annotator, (verdict, grade) in enumerate(said)
    ]
    table = np.array(votes, dtype=np.int64).reshape(-1, 4)
    decided = np.full(len(pairs), UNDECIDED, dtype=np.int64)
    for place, verdict in (decisions or {}).items():
        decided[place] = verdict
    return VoteColumns(
        pair_ids=np.arange(len(pairs)) + 100,
        batches=np.array([batch for batch, _ in pairs], dtype=np.int64),
        decisions=decided,
        pairs=table[:, 0],
        annotators=table[:, 1],
        verdicts=table[:, 2],
        strengths=table[:, 3],
        ignored=0,
        simulated={},
    )


def said(*verdicts: str, batch: int = 1) -> Pair:
    return batch, [(verdict, 0) for verdict in verdicts]


def decided(
    *pairs: Pair,
    rules: Rules | None = None,
    loss: str = "dpo",
    newest: int = 1,
    decisions: dict[int, int] | None = None,
) -> Decisions:
    return decide(columns(*pairs, decisions=decisions), rules=rules or Rules(), loss=loss, newest=newest)


def outcomes(*pairs: Pair, rules: Rules | None = None, loss: str = "dpo", newest: int = 1) -> list[Outcome]:
    found = decided(*pairs, rules=rules, loss=loss, newest=newest)
    return [Outcome(value) for value in found.outcomes.tolist()]


def test_the_majority_decides_and_two_that_lead_alike_conflict() -> None:
    found = decided(
        said("a"),
        said("b", "b", "a"),
        said("a", "b"),
        said("a", "tie"),
        said("tie", "tie", "a"),
        said("both_bad"),
    )
    assert found.outcomes.tolist() == [
        Outcome.PREFERENCE,
        Outcome.PREFERENCE,
        Outcome.CONFLICTING,
        Outcome.CONFLICTING,
        Outcome.TIED,
        Outcome.BOTH_BAD,
    ]
    assert found.b_is_chosen.tolist() == [False, True, False, False, False, False]
    assert found.p[:2].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("ties", "loss", "came_to"),
    [
        (Ties.LEARN, "dpo", Outcome.TIED),
        (Ties.LEARN, "davidson", Outcome.TIE),
        (Ties.LEARN, "rao_kupper", Outcome.TIE),
        (Ties.HALF, "dpo", Outcome.HALF),
        (Ties.HALF, "davidson", Outcome.HALF),
        (Ties.LEAVE_OUT, "davidson", Outcome.TIED),
    ],
)
def test_ties_are_ties_half_or_left_out(ties: Ties, loss: str, came_to: Outcome) -> None:
    found = decided(said("tie"), rules=Rules(ties=ties), loss=loss)
    assert found.outcomes.tolist() == [came_to]
    if came_to == Outcome.HALF:
        assert found.p.tolist() == [0.5]


def test_both_bad_counts_as_a_tie_where_the_rules_say_so() -> None:
    rules = Rules(both_bad=BothBad.TIE, ties=Ties.HALF)
    assert outcomes(said("both_bad"), said("both_bad", "tie", "a"), rules=rules) == [Outcome.HALF] * 2


def test_soft_labels_are_the_share_of_votes_for_the_chosen_side() -> None:
    found = decided(
        said("a", "a", "b"),
        said("b", "b", "b", "a"),
        said("a", "b"),
        said("tie", "tie", "a"),
        said("both_bad", "both_bad", "a"),
        said("a", "tie"),
        rules=Rules(aggregation=Aggregation.SHARE),
    )
    assert found.outcomes.tolist() == [
        Outcome.PREFERENCE,
        Outcome.PREFERENCE,
        Outcome.HALF,
        Outcome.TIED,
        Outcome.BOTH_BAD,
        Outcome.CONFLICTING,
    ]
    assert found.p[:3].tolist() == pytest.approx([2 / 3, 3 / 4, 1 / 2])
    assert found.b_is_chosen[:3].tolist() == [False, True, False]


def test_a_tie_vote_is_half_a_vote_for_each_side_where_ties_are_halves() -> None:
    rules = Rules(aggregation=Aggregation.SHARE, ties=Ties.HALF)
    found = decided(said("a", "tie"), said("tie", "tie", "b"), rules=rules)
    assert found.outcomes.tolist() == [Outcome.PREFERENCE, Outcome.PREFERENCE]
    assert found.p.tolist() == pytest.approx([3 / 4, 2 / 3])
    assert found.b_is_chosen.tolist() == [False, True]


def test_reliable_people_weigh_more_in_soft_labels() -> None:
    agreed = [said("a", "a", "b"), said("b", "b", "a")] * 20  # the third one contradicts the two others
    found = decided(*agreed, said("a", "a", "b"), rules=Rules(aggregation=Aggregation.RELIABILITY))
    assert found.p[-1] > 0.9 > 2 / 3
    assert not found.b_is_chosen[-1]


def test_grades_weigh_pairs_or_leave_the_weak_ones_out() -> None:
    pairs: list[Pair] = [(1, [("a", 4)]), (1, [("a", 1), ("a", 2)]), (1, [("a", 0)])]
    weighed = decided(*pairs, rules=Rules(strength=Strength.WEIGH))
    assert weighed.weights.tolist() == pytest.approx([1.0, 1.5 / 4, 3 / 4])
    assert outcomes(*pairs, rules=Rules(strength=Strength.CLEAR)) == [
        Outcome.PREFERENCE,
        Outcome.WEAK,
        Outcome.PREFERENCE,
    ]


@pytest.mark.parametrize(
    ("rules", "weights"),
    [
        (Rules(), [0.5, 0.5, 1.0]),
        (Rules(older_weight=0.25), [0.25, 0.25, 1.0]),
        (Rules(older_weight=0.5, fades=True), [0.25, 0.5, 1.0]),
        (Rules(older_weight=1.0), [1.0, 1.0, 1.0]),
    ],
)
def test_older_rounds_weigh_what_the_rules_say(rules: Rules, weights: list[float]) -> None:
    found = decided(*(said("a", batch=batch) for batch in (1, 2, 3)), rules=rules, newest=3)
    assert found.weights.tolist() == weights


def test_weight_zero_leaves_older_rounds_out() -> None:
    rules = Rules(older_weight=0)
    assert outcomes(said("a"), said("a", batch=2), rules=rules, newest=2) == [
        Outcome.OLDER,
        Outcome.PREFERENCE,
    ]


@pytest.mark.parametrize("aggregation", Aggregation)
def test_a_leads_decision_goes_before_every_vote(aggregation: Aggregation) -> None:
    decisions = {0: PLACE["b"], 1: LEFT_OUT, 2: PLACE["tie"]}
    found = decided(*[said("a", "a")] * 3, said(), decisions=decisions, rules=Rules(aggregation=aggregation))
    assert found.outcomes.tolist() == [
        Outcome.PREFERENCE,
        Outcome.LEFT_OUT_BY_LEAD,
        Outcome.TIED,
        Outcome.UNLABELLED,
    ]
    assert (found.b_is_chosen[0], found.p[0]) == (True, 1.0)


def test_no_pairs_come_to_nothing() -> None:
    assert decided(rules=Rules(aggregation=Aggregation.RELIABILITY)).outcomes.tolist() == []


def test_alike_pairs_are_left_out_whatever_was_voted() -> None:
    found = decide(
        columns(said("a"), said("tie"), said("b")),
        rules=Rules(most_alike=0.9),
        loss="dpo",
        newest=1,
        alike=np.array([True, True, False]),
    )
    assert found.outcomes.tolist() == [Outcome.ALIKE, Outcome.ALIKE, Outcome.PREFERENCE]


def test_rules_are_kept_and_read_back() -> None:
    rules = Rules(
        ties=Ties.HALF,
        aggregation=Aggregation.SHARE,
        older_weight=0.25,
        most_alike=0.8,
        annotators_left_out=(3, 7),
    )
    assert rules_from_json(rules.as_json()) == rules
    assert rules_from_json({}) == Rules()
    with pytest.raises(ValueError, match="strenght is no rule of a training set; known are ties"):
        rules_from_json({"strenght": "weigh"})


@pytest.mark.parametrize(
    ("values", "said_of_it"),
    [
        ({"older_weight": 1.5}, r"Weight of older rounds = 1.5 must lie between 0 and 1; 0.5 is usual."),
        ({"most_alike": 0.0}, "Shared words = 0 must lie above 0 and up to 1"),
        ({"ties": "both"}, "'both' is not a valid Ties"),
    ],
)
def test_values_that_no_rule_has_are_refused(values: dict[str, object], said_of_it: str) -> None:
    with pytest.raises(ValueError, match=said_of_it):
        rules_from_json(values)


def test_a_loss_of_sure_labels_refuses_soft_ones_by_name() -> None:
    soft = Rules(aggregation=Aggregation.SHARE, ties=Ties.HALF)
    assert set(rule_faults(soft, loss="ipo")) == {"aggregation", "ties"}
    assert "the loss ipo knows only sure labels; take dpo" in rule_faults(soft, loss="ipo")["ties"]
    assert rule_faults(soft, loss="dpo") == rule_faults(Rules(), loss="ipo") == {}


def test_the_words_say_what_happens_to_ties_under_the_loss() -> None:
    assert rule_words(Rules(), loss="dpo", people={})[0] == "Ties are left out."
    assert rule_words(Rules(), loss="davidson", people={})[0] == "Ties are trained as ties."
    words = rule_words(Rules(annotators_left_out=(4,), older_weight=0), loss="dpo", people={4: "Ada"})
    assert "Left out: Ada." in words
    assert "Only pairs of the newest round are used." in words
