"""Bradley–Terry strengths against a published table, a closed form and the edges."""

from math import log

import numpy as np
import pytest

from training.evaluation.bradley_terry import connected, strengths
from training.evaluation.fits import fit_logistic, fit_many
from training.evaluation.outcomes import Outcome

# Wins of the row over the column, American League East 1987 (Agresti 2002, table 10.10).
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = (
    (0, 7, 9, 7, 7, 9, 11),
    (6, 0, 7, 5, 11, 9, 9),
    (4, 6, 0, 7, 7, 8, 12),
    (6, 8, 6, 0, 6, 7, 10),
    (6, 2, 6, 7, 0, 7, 12),
    (4, 4, 5, 6, 6, 0, 6),
    (2, 4, 1, 3, 1, 7, 0),
)
PUBLISHED = (1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0)


def baseball() -> list[Outcome]:
    """A game a prompt, so that the bootstrap resamples games."""
    games = []
    for winner, row in enumerate(WINS):
        for loser, wins in enumerate(row):
            games += [(winner, loser)] * wins
    return [Outcome(winner, loser, number, wins=1) for number, (winner, loser) in enumerate(games)]


def test_strengths_are_those_of_the_published_table() -> None:
    found = strengths(baseball(), policies=range(7), reference=6)
    values = {row.policy: row.value for row in found.rows}
    assert [values[team] for team in range(7)] == pytest.approx(PUBLISHED, abs=0.03)
    assert found.unconnected == ()
    assert found.sentence == ""
    assert all(row.low <= row.value <= row.high for row in found.rows)
    # Milwaukee's standard error against Baltimore is published as 0.343.
    milwaukee = found.rows[0]
    assert (milwaukee.high - milwaukee.low) / 2 == pytest.approx(1.96 * 0.343, rel=0.25)


def test_two_policies_have_the_log_odds_of_their_verdicts() -> None:
    outcomes = [
        Outcome(1, 0, prompt, wins=int(prompt < 75), losses=int(prompt >= 75)) for prompt in range(100)
    ]
    reference, policy = strengths(outcomes, policies=[0, 1], reference=0).rows
    assert (reference.value, reference.low, reference.high) == (0.0, 0.0, 0.0)
    assert policy.value == pytest.approx(log(3), abs=0.01)
    assert policy.low < log(3) < policy.high


def test_all_ties_leave_everyone_level() -> None:
    rows = strengths(
        [Outcome(1, 0, prompt, ties=1) for prompt in range(30)], policies=[0, 1], reference=0
    ).rows
    assert [row.value for row in rows] == pytest.approx([0.0, 0.0], abs=1e-6)


def test_a_policy_that_won_everything_stays_finite_and_the_page_says_so() -> None:
    found = strengths([Outcome(1, 0, prompt, wins=1) for prompt in range(30)], policies=[0, 1], reference=0)
    assert 2.0 < found.rows[1].value < 20.0
    assert "won or lost every verdict" in found.sentence


def test_policies_without_a_chain_of_verdicts_to_the_reference_are_named() -> None:
    outcomes = [Outcome(1, 0, 1, wins=1), Outcome(3, 2, 1, wins=1)]
    found = strengths(outcomes, policies=[0, 1, 2, 3], reference=0)
    assert found.unconnected == (2, 3)
    assert {row.policy for row in found.rows} == {0, 1}


def test_nothing_judged_is_said_in_words() -> None:
    found = strengths([Outcome(1, 0, 1, both_bad=1)], policies=[0, 1], reference=0)
    assert found.rows == ()
    assert "No verdict connects" in found.sentence
    assert connected(set(), start=0) == {0}


def test_resampled_fits_are_the_librarys() -> None:
    rng = np.random.default_rng(0)
    design = np.column_stack([np.ones(40), rng.normal(size=40)])
    trials = rng.integers(1, 6, size=(8, 40)).astype(float)
    points = np.floor(trials * rng.random((8, 40)))
    ridge = np.array([0.02, 0.2])
    one_by_one = [
        fit_logistic(design, points=points[row], trials=trials[row], ridge=ridge) for row in range(8)
    ]
    together = fit_many(design, points=points, trials=trials, ridge=ridge, start=np.zeros(2))
    assert together == pytest.approx(np.array(one_by_one), abs=1e-4)
