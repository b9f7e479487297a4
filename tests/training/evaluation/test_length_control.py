"""The length-controlled win rate: a judge who looks at length alone leaves nothing at equal length."""

import numpy as np
import pytest

from training.evaluation.length_control import length_controlled
from training.evaluation.outcomes import Outcome
from training.evaluation.win_rate import win_rate


def simulated(*, quality: float, liking_of_length: float, longer_by: float, seed: int = 0) -> list[Outcome]:
    """400 prompts; the policy's responses are longer on average, and the judge likes quality and length."""
    rng = np.random.default_rng(seed)
    differences = np.rint(rng.normal(longer_by, 30.0, size=400)).astype(int)
    logits = quality + liking_of_length * np.tanh(differences / differences.std())
    wins = rng.random(400) < 1 / (1 + np.exp(-logits))
    return [
        Outcome(1, 0, prompt, wins=int(won), losses=int(not won), length_difference=int(difference))
        for prompt, (won, difference) in enumerate(zip(wins, differences, strict=True))
    ]


def test_a_judge_that_prefers_longer_leaves_half_at_equal_length() -> None:
    outcomes = simulated(quality=0.0, liking_of_length=2.5, longer_by=30.0)
    plain = win_rate(outcomes, half_width=0.1).interval
    controlled = length_controlled(outcomes)
    assert plain is not None
    assert plain.low > 0.6
    assert controlled.low is not None
    assert controlled.high is not None
    assert controlled.low < 0.5 < controlled.high


def test_quality_stays_when_length_is_taken_out() -> None:
    outcomes = simulated(quality=1.0, liking_of_length=0.0, longer_by=0.0, seed=1)
    controlled = length_controlled(outcomes)
    assert controlled.share == pytest.approx(1 / (1 + np.exp(-1.0)), abs=0.06)
    assert controlled.length_effect == pytest.approx(0.0, abs=0.4)


@pytest.mark.parametrize(
    ("outcomes", "why"),
    [
        ([], "there are 0"),
        (
            [Outcome(1, 0, prompt, wins=1, length_difference=prompt - 5) for prompt in range(10)],
            "there are 10",
        ),
        ([Outcome(1, 0, prompt, wins=1, length_difference=4) for prompt in range(30)], "by the same"),
        ([Outcome(1, 0, prompt, wins=1, length_difference=prompt + 1) for prompt in range(30)], "longer"),
    ],
)
def test_what_cannot_be_told_is_said(outcomes: list[Outcome], why: str) -> None:
    controlled = length_controlled(outcomes)
    assert controlled.share is None
    assert why in controlled.sentence
