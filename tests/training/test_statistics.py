import pytest

from training.statistics import bootstrap_interval, wilson_interval, win_interval


def test_wilson_interval_has_the_published_value_for_eight_of_ten() -> None:
    # p = 0.8, n = 10, z = 1.96: centre (0.8 + 0.19207) / 1.38415 = 0.71674, half-width 0.22660.
    interval = wilson_interval(wins=8, trials=10)
    assert interval.low == pytest.approx(0.4902, abs=1e-4)
    assert interval.high == pytest.approx(0.9433, abs=1e-4)
