import pytest

from training.statistics import bootstrap_interval, wilson_interval, win_interval


def test_wilson_interval_has_the_published_value_for_eight_of_ten() -> None:
    # p = 0.8, n = 10, z = 1.96: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half-width 0.22660.
    interval = wilson_interval(wins=8, trials=10)
    assert interval.low == pytest.approx(0.4902, abs=1e-4)
    assert interval.high == pytest.approx(0.9433, abs=1e-4)


@pytest.mark.parametrize(("wins", "end"), [(0, 0.0), (12, 1.0)])
def test_wilson_interval_reaches_its_end_for_all_losses_and_all_wins(wins: int, end: float) -> None:
    interval = wilson_interval(wins=wins, trials=12)
    assert interval.share == end
    assert end in (interval.low, interval.high)
    assert 0.0 <= interval.low < interval.high <= 1.0


def test_all_ties_give_a_half_inside_its_interval() -> None:
    interval = win_interval([[0.5]] * 20)
    assert interval.share == 0.5
    assert interval.low < 0.5 < interval.high


@pytest.mark.parametrize(("wins", "trials"), [(1, 0), (3, 2), (-1, 5)])
def test_impossible_counts_are_refused(wins: int, trials: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        wilson_interval(wins=wins, trials=trials)


def test_bootstrap_matches_the_normal_approximation_for_many_prompts() -> None:
    # 400 prompts, 240 won outright: standard error √(0.6·0.4/400) = 0.02449, so 0.6 ± 0.048.
    interval = bootstrap_interval(shares=[1.0] * 240 + [0.0] * 160)
    assert interval.low == pytest.approx(0.552, abs=0.005)
    assert interval.high == pytest.approx(0.648, abs=0.005)


def test_several_samples_of_a_prompt_do_not_shrink_the_interval() -> None:
    once = win_interval([[1.0]] * 12 + [[0.0]] * 8)
    copied = win_interval([[1.0] * 9] * 12 + [[0.0] * 9] * 8)
    assert copied.method == "bootstrap"
    assert copied.high - copied.low == pytest.approx(once.high - once.low, rel=0.15)


def test_no_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        bootstrap_interval(shares=[])
