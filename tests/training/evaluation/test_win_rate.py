"""Win rates on cases with known answers."""

import numpy as np
import pytest

from training.evaluation.outcomes import Outcome, shares_by_prompt, tally_of
from training.evaluation.win_rate import prompt_interval, verdicts_needed, win_rate


def judged(prompt: int, *, wins: int = 0, losses: int = 0, ties: int = 0, both_bad: int = 0) -> Outcome:
    return Outcome(1, 0, prompt, wins=wins, losses=losses, ties=ties, both_bad=both_bad)


def test_ties_count_half_and_both_bad_is_stated_apart() -> None:
    rate = win_rate(
        [judged(1, wins=1), judged(2, ties=1), judged(3, losses=1), judged(4, both_bad=1)], half_width=0.1
    )
    assert rate.share == 0.5
    assert (rate.tally.both_bad, rate.tally.prompts, rate.tally.verdicts) == (1, 3, 4)


def test_no_verdict_gives_no_rate() -> None:
    for outcomes in ([], [judged(1, both_bad=3)]):
        rate = win_rate(outcomes, half_width=0.1)
        assert rate.interval is None
        assert rate.needed is None


def test_all_ties_give_a_half_with_an_interval_around_it() -> None:
    interval = win_rate([judged(prompt, ties=1) for prompt in range(40)], half_width=0.1).interval
    assert interval is not None
    assert interval.share == 0.5
    assert interval.low < 0.45
    assert interval.high > 0.55


def test_one_prompt_knows_next_to_nothing_however_many_judged_it() -> None:
    interval = win_rate([judged(1, wins=50)], half_width=0.1).interval
    assert interval is not None
    assert interval.share == 1.0
    # Wilson's interval for one success in one trial begins at 1 / (1 + 1.96²) = 0.2065.
    assert interval.low == pytest.approx(0.2065, abs=1e-4)


def test_several_verdicts_on_a_prompt_are_one_prompt() -> None:
    assert shares_by_prompt([judged(7, wins=1), judged(7, losses=2, ties=1)]) == {7: 0.375}


def test_a_single_annotators_verdicts_are_enough_for_an_interval_over_prompts() -> None:
    outcomes = [judged(prompt, wins=prompt % 2, losses=1 - prompt % 2) for prompt in range(100)]
    interval = win_rate(outcomes, half_width=0.1).interval
    assert interval is not None
    # A fair coin, 100 throws: ± 1.96·√(0.25/100) = ± 0.098.
    assert interval.low == pytest.approx(0.402, abs=0.012)
    assert interval.high == pytest.approx(0.598, abs=0.012)


def test_interval_covers_the_truth_of_a_biased_coin_about_95_times_in_100() -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(300):
        throws = tuple((rng.random(60) < 0.65).astype(float).tolist())
        interval = prompt_interval(throws)
        hits += interval.low <= 0.65 <= interval.high
    assert 0.90 <= hits / 300 <= 0.985


def test_fewer_than_twenty_prompts_are_judged_by_wilsons_interval() -> None:
    few, enough = prompt_interval((1.0, 0.0, 0.5) * 6 + (1.0,)), prompt_interval((1.0, 0.0) * 10)
    assert (few.prompts, few.method) == (19, "wilson")
    assert few.share == 10 / 19
    assert (enough.prompts, enough.method) == (20, "bootstrap")


def test_verdicts_needed_matches_the_closed_form() -> None:
    coin = [1.0, 0.0] * 50
    # s² = 0.25·100/99; n = 1.96²·s²/0.05² = 388.03.
    assert verdicts_needed(coin, half_width=0.05) == 389 - 100
    assert verdicts_needed(coin, half_width=0.1) == 0
    # Too few to tell: the widest case, 1.96²·0.25/0.1² = 96.04.
    assert verdicts_needed([1.0, 1.0], half_width=0.1) == 97 - 2
    with pytest.raises(ValueError, match="half_width"):
        verdicts_needed(coin, half_width=0.0)


def test_identical_texts_are_a_tie_that_nobody_gave() -> None:
    tally = tally_of([Outcome(1, 0, 1, ties=1, identical=True), judged(2, wins=1)])
    assert (tally.ties, tally.identical, tally.verdicts, tally.judged) == (1, 1, 1, 2)
