"""Shares, agreement and Krippendorff's α against closed forms and published tables."""

from __future__ import annotations

from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.quality.alarms import alarms_of
from annotate.quality.charts import day_bars
from annotate.quality.statistics import Tally, krippendorff_alpha, median, raw_agreement, share_of
from annotate.selectors.agreement import study_agreement
from annotate.selectors.quality import _Counts, _figures


def test_wilson_interval_of_a_known_case() -> None:
    # 8 of 10: (0.8 + z²/20 ± z √(0.016 + z²/400)) / (1 + z²/10) with z = 1.96
    share = share_of(hits=8, total=10)
    assert share.share == 0.8
    assert share.low == pytest.approx(0.4902, abs=1e-4)
    assert share.high == pytest.approx(0.9433, abs=1e-4)


def test_a_share_of_nothing_is_undefined_and_hits_beyond_the_total_are_refused() -> None:
    nothing = share_of(hits=0, total=0)
    assert (nothing.share, nothing.low, nothing.high) == (None, None, None)
    assert not nothing.is_above(0.5)
    assert not nothing.is_below(0.5)
    with pytest.raises(ValueError, match="hits = 3 of total = 2"):
        share_of(hits=3, total=2)


@given(total=st.integers(1, 500), data=st.data())
def test_an_interval_holds_its_share_and_stays_between_0_and_1(total: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, total))
    share = share_of(hits=hits, total=total)
    assert share.share is not None
    assert share.low is not None
    assert share.high is not None
    assert -1e-12 <= share.low <= share.share <= share.high <= 1 + 1e-12


def test_raw_agreement_counts_pairs_of_votes() -> None:
    # a a | a b | three votes a a b: 1 + 0 + 1 agreeing of 1 + 1 + 3 compared
    tallies: dict[Tally, int] = {(2, 0, 0, 0): 1, (1, 1, 0, 0): 1, (2, 1, 0, 0): 1}
    agreement = raw_agreement(tallies)
    assert (agreement.hits, agreement.total) == (2, 5)


def test_alpha_of_a_published_table() -> None:
    # Krippendorff, “Computing Krippendorff's Alpha-Reliability” (2011), A: two observers, ten binary units,
    # o₀₀ = 10, o₀₁ = 4, o₁₁ = 2: α = 1 − (n−1) · o₀₁ / (n₀ · n₁) = 1 − 19 · 4 / (14 · 6) = 0.095
    tallies: dict[Tally, int] = {(2, 0, 0, 0): 5, (1, 1, 0, 0): 4, (0, 2, 0, 0): 1}
    alpha = krippendorff_alpha(tallies)
    assert alpha.value == pytest.approx(1 - 19 * 4 / (14 * 6), abs=1e-9)
    assert alpha.pairs == 10


def test_perfect_agreement_is_1_and_perfect_disagreement_of_two_people_is_below_0() -> None:
    assert krippendorff_alpha({(2, 0, 0, 0): 4, (0, 2, 0, 0): 4}).value == pytest.approx(1)
    # Every unit split: Dₒ = 1, Dₑ = 2·n₀·n₁/(n(n−1)) = 2·8·8/(16·15): α = 1 − 240/128 = −0.875
    assert krippendorff_alpha({(1, 1, 0, 0): 8}).value == pytest.approx(1 - 240 / 128)


def test_alpha_says_why_it_is_undefined() -> None:
    empty = krippendorff_alpha({})
    assert (empty.value, empty.reason) == (None, "needs two people on the same pair; 0 pairs have that")
    single = krippendorff_alpha({(1, 0, 0, 0): 50})
    assert single.reason == "needs two people on the same pair; 0 pairs have that"
    all_ties = krippendorff_alpha({(0, 0, 2, 0): 7})
    assert (all_ties.value, all_ties.pairs) == (None, 7)
    assert "every vote says “Tie”" in all_ties.reason


def test_pairs_with_one_vote_change_no_alpha() -> None:
    shared: dict[Tally, int] = {(2, 0, 0, 0): 5, (1, 1, 0, 0): 4, (0, 2, 0, 0): 1}
    assert krippendorff_alpha(shared | {(0, 0, 1, 0): 30}).value == krippendorff_alpha(shared).value


def test_median() -> None:
    assert median([]) is None
    assert median([3, 1, 2]) == 2
    assert median([4, 1]) == 2.5


def sentences(**counts: int) -> dict[str, str]:
    seconds = [1.0] * counts.pop("fast", 0)
    figures = _figures(_Counts(**counts), agreement=study_agreement([]), seconds=seconds)
    return {alarm.figure: alarm.sentence for alarm in alarms_of(figures, whose="Ana")}


def test_a_handful_of_labels_never_alarms() -> None:
    assert not sentences(labels=3, a_or_b=3, left=3, gold=3, gold_right=1, repeats=2, unequal=3, longer=3)


def test_figures_beyond_their_level_get_a_sentence_each() -> None:
    found = sentences(
        labels=230, a_or_b=90, left=80, tie=140, gold=20, gold_right=5, repeats=20, consistent=6,
        unequal=80, longer=70, fast=30,
    )  # fmt: skip
    assert set(found) == {"gold", "consistency", "left", "longer", "seconds", "ties"}
    assert found["gold"].startswith("Ana answered 5 of 20 gold pairs as expected.")
    assert "left side in 89\N{NO-BREAK SPACE}% of 90 choices" in found["left"]


def test_somebody_without_habits_gets_no_sentence() -> None:
    assert not sentences(
        labels=400, a_or_b=380, left=190, tie=10, gold=30, gold_right=28, repeats=30, consistent=28,
        unequal=380, longer=200,
    )  # fmt: skip


def test_day_bars_fill_the_height_and_an_empty_chart_stands_on_a_line() -> None:
    days = [(date(2026, 1, 1), 5), (date(2026, 1, 2), 10), (date(2026, 1, 3), 0)]
    bars = day_bars(days)
    assert [round(bar.height) for bar in bars.bars] == [48, 96, 1]
    assert all(bar.y + bar.height == pytest.approx(bars.height) for bar in bars.bars)
    assert (bars.highest, bars.total) == (10, 15)
    assert Counter(bar.height for bar in day_bars([(day, 0) for day, _ in days]).bars) == {1.0: 3}
