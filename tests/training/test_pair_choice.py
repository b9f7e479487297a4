"""Which two of several responses become a pair: the rule, and the share that is always drawn at random."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.services.pair_choice import Candidate, choose_pair, is_in_random_share

FOUR = [
    Candidate(0, "one", tokens=2, log_ratio=0.0),
    Candidate(1, "one two", tokens=3, log_ratio=5.0),
    Candidate(2, "one two three", tokens=5, log_ratio=10.0),
    Candidate(3, "one two three four five six", tokens=9, log_ratio=5.1),
]


def test_margin_picks_the_closest_implicit_rewards_and_says_how_close() -> None:
    choice = choose_pair(FOUR, rule="margin", random_share=0.0, key="x")
    assert choice is not None
    assert (choice.first, choice.second, choice.rule, choice.candidates) == (1, 3, "margin", 4)
    assert choice.margin == pytest.approx(0.1)


def test_length_picks_the_closest_lengths() -> None:
    choice = choose_pair(FOUR, rule="length", random_share=0.0, key="x")
    assert choice is not None
    assert (choice.first, choice.second, choice.rule) == (0, 1, "length")


def test_random_pairs_come_up_equally_often() -> None:
    drawn: Counter[tuple[int, int]] = Counter()
    for key in range(3000):
        choice = choose_pair(FOUR, rule="random", random_share=0.25, key=str(key))
        assert choice is not None
        drawn[choice.first, choice.second] += 1
    assert len(drawn) == 6
    # Six pairs of 500 each; four standard deviations of a binomial count (√(3000·1/6·5/6) = 20.4).
    assert all(abs(count - 500) < 82 for count in drawn.values())


def test_random_share_is_kept_whatever_the_rule() -> None:
    chosen = [choose_pair(FOUR, rule="margin", random_share=0.25, key=str(key)) for key in range(2000)]
    random = sum(choice is not None and choice.rule == "random" for choice in chosen)
    assert abs(random - 500) < 78  # four standard deviations, √(2000·1/4·3/4) = 19.4
    assert random == sum(is_in_random_share(str(key), share=0.25) for key in range(2000))


def test_under_the_reference_itself_margins_say_nothing_and_the_draw_decides() -> None:
    flat = [Candidate(slot, f"text {slot}", tokens=slot, log_ratio=0.0) for slot in range(4)]
    unknown = [Candidate(slot, f"text {slot}", tokens=slot) for slot in range(4)]
    for responses in (flat, unknown):
        choice = choose_pair(responses, rule="margin", random_share=0.0, key="x")
        assert choice is not None
        assert choice.rule == "random"


def test_responses_that_read_the_same_are_one_candidate() -> None:
    same = [Candidate(slot, text, tokens=1) for slot, text in enumerate(["a", " a ", "b", "a"])]
    choice = choose_pair(same, rule="random", random_share=1.0, key="x")
    assert choice is not None
    assert (choice.first, choice.second, choice.candidates) == (0, 2, 2)
    assert choose_pair(same[:2], rule="random", random_share=1.0, key="x") is None


@given(st.permutations(FOUR), st.sampled_from(["random", "margin", "length"]), st.text())
def test_the_order_in_which_responses_arrive_changes_nothing(
    arrived: list[Candidate], rule: str, key: str
) -> None:
    chosen = choose_pair(arrived, rule=rule, random_share=0.25, key=key)
    assert chosen == choose_pair(FOUR, rule=rule, random_share=0.25, key=key)
    assert chosen is not None
    assert chosen.first < chosen.second
