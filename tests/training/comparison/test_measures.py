"""Word change, distinct-n, means over prompts and the marks of a plot, against values worked out by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.comparison.means import mean_over_prompts, share_over_prompts
from training.comparison.plots import nice_ticks, plot_of
from training.comparison.texts import common_words, distinct_n, word_change
from training.policy_chart import Point

WORDS = st.lists(st.sampled_from("abcd"), max_size=14)


def common_by_table(before: list[str], after: list[str]) -> int:
    """The textbook table of the longest common subsequence."""
    row = [0] * (len(after) + 1)
    for word in before:
        above = row
        row = [0]
        for place, other in enumerate(after):
            row.append(above[place] + 1 if word == other else max(row[place], above[place + 1]))
    return row[-1]


@given(before=WORDS, after=WORDS)
def test_common_words_are_those_of_the_textbook_table(before: list[str], after: list[str]) -> None:
    assert common_words(before, after) == common_by_table(before, after)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ("", "", 0.0),
        ("a b", "", 1.0),
        ("one two three", "one two four", 1 - 2 * 2 / 6),
        ("one two three", "five six seven", 1.0),
        # The same words in another order: a bag of words would say 0; one word is in common in order.
        ("dog bites man", "man bites dog", 1 - 2 * 1 / 6),
        ("the cat sat", "the  cat\nsat", 0.0),
    ],
)
def test_word_change_is_the_share_outside_the_longest_common_subsequence(
    before: str, after: str, share: float
) -> None:
    assert word_change(before, after) == pytest.approx(share)
    assert word_change(after, before) == pytest.approx(share)


def test_distinct_n_counts_different_n_grams_over_all() -> None:
    """ "a b a b" has the words a b a b, the pairs ab ba ab, the triples aba bab; "A c" adds a, c and ac."""
    texts = ["a b a b", "A c"]
    assert distinct_n(texts, n=1) == 3 / 6
    assert distinct_n(texts, n=2) == 3 / 4
    assert distinct_n(texts, n=3) == 2 / 2
    assert distinct_n(["loop loop loop loop"], n=2) == 1 / 3


def test_distinct_n_without_any_n_gram_is_unknown() -> None:
    assert distinct_n([], n=1) is None
    assert distinct_n(["one", "two"], n=2) is None


def test_distinct_n_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="n = 0 must be at least 1"):
        distinct_n(["a"], n=0)


def test_mean_counts_a_prompt_once_however_many_samples_it_has() -> None:
    """Prompt means 2, 4, 6: mean 4, variance 4, standard error √(4/3) = 1.1547, half width 2.2632."""
    mean = mean_over_prompts([(1, 1.0), (1, 3.0), (2, 4.0), (3, 6.0)])
    assert mean is not None
    assert (mean.value, mean.prompts) == (4.0, 3)
    assert mean.low == pytest.approx(4 - 2.26317, abs=1e-4)
    assert mean.high == pytest.approx(4 + 2.26317, abs=1e-4)


def test_mean_of_one_prompt_has_no_interval_and_of_none_is_unknown() -> None:
    one = mean_over_prompts([(1, 5.0), (1, 7.0)])
    assert one is not None
    assert (one.value, one.low, one.high) == (6.0, None, None)
    assert mean_over_prompts([]) is None


def test_share_has_wilsons_interval() -> None:
    """0 of 10: Wilson's upper end is z²/(n + z²) = 3.8415/13.8415 = 0.2775; 5 of 10: 0.2366 … 0.7634."""
    none = share_over_prompts([(prompt, 0.0) for prompt in range(10)])
    half = share_over_prompts([(prompt, float(prompt % 2)) for prompt in range(10)])
    assert none is not None
    assert half is not None
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(0.2775, abs=1e-4)
    assert half.low == pytest.approx(0.2366, abs=1e-4)
    assert half.high == pytest.approx(0.7634, abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 100, [0, 50, 100]),
        (41, 79, [40, 50, 60, 70, 80]),
        (-1.2, 0.9, [-2, -1, 0, 1]),
        (3, 3, [3, 4]),
        (0, 0, [0, 0.5]),
    ],
)
def test_ticks_are_round_and_hold_every_value(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


def test_plot_puts_higher_values_higher_and_leaves_out_what_is_unknown() -> None:
    plot = plot_of("Length", [Point("0", 1.0, 0.5, 1.5), Point("1", None), Point("2", 3.0)])
    assert plot is not None
    first, last = plot.series[0].marks
    assert (first.title, last.title) == ("0: 1.00 [0.50, 1.50]", "2: 3.00")
    assert first.x < last.x
    assert last.y < first.y
    assert first.y_high is not None
    assert first.y_low is not None
    assert first.y_high < first.y < first.y_low
    assert [label.text for label in plot.across] == ["0", "1", "2"]


def test_plot_of_nothing_is_none_and_of_many_policies_labels_some() -> None:
    assert plot_of("Length", [Point("0", None)]) is None
    plot = plot_of("Length", [Point(str(number), float(number)) for number in range(40)])
    assert plot is not None
    assert len(plot.across) == 10
