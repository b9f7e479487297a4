"""What the figures warn of, from looks made up for the purpose."""

import math
from dataclasses import fields, replace

import pytest

from tests.core.support import random_pair
from training.core.alarms import step_alarms
from training.core.diagnostics import (
    Course,
    Look,
    SideLook,
    figures_of,
    length_margin_correlation,
    warnings_of,
)
from training.core.loss_course import StepLoss, preference_scale
from training.core.run.records import StepMetrics
from training.core.stages.preparation import truncated_share

USUAL = preference_scale({"name": "dpo", "beta": 0.1})


def side(*log_ratios: float, logp: float = -5.0) -> SideLook:
    return SideLook(logp=logp, reward=0.1 * sum(log_ratios), tokens=len(log_ratios), log_ratios=log_ratios)


def look(chosen: SideLook | None, rejected: SideLook | None, **changes: object) -> Look:
    margin = (chosen.reward if chosen else 0.0) - (rejected.reward if rejected else 0.0)
    made = Look(index=0, loss=0.5, margin=margin, chosen=chosen, rejected=rejected, tokens=9)
    return replace(made, **changes)  # type: ignore[arg-type]


def losses(*values: float) -> tuple[StepLoss, ...]:
    return tuple(StepLoss(step, loss=value, examples=8) for step, value in enumerate(values, 1))


def course(looks: list[Look], **changes: object) -> Course:
    made = Course(
        margin_before=0.0,
        chosen_before=0.0,
        rejected_before=0.0,
        after=figures_of(looks),
        pairs=len(looks),
        losses=losses(math.log(2), 0.6, 0.6),
        scale=preference_scale({}),
        first_loss_expected=math.log(2),
        truncated_share=0.0,
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def test_figures_are_means_over_examples_and_tokens() -> None:
    figures = figures_of([look(side(0.2, 0.4), side(-0.1)), look(side(-0.6), side(0.3), loss=0.7)])
    assert figures.loss == pytest.approx(0.6)
    assert figures.rewards_chosen == pytest.approx((0.06 - 0.06) / 2)
    assert figures.rewards_margins == pytest.approx((0.07 - 0.09) / 2)
    assert (figures.rewards_accuracies, figures.rewards_contradicted) == (0.5, 0.5)
    assert figures.log_ratio_per_token_chosen == pytest.approx((0.3 - 0.6) / 2)
    assert figures.absolute_log_ratio_per_token == pytest.approx(((0.2 + 0.4) / 2 + 0.6 + 0.1 + 0.3) / 4)


def test_one_sided_examples_have_the_figures_of_their_side() -> None:
    figures = figures_of([look(side(0.5), None), look(side(0.1), None)])
    assert figures.rewards_chosen == pytest.approx(0.03)
    assert (figures.rewards_rejected, figures.rewards_margins, figures.logps_rejected) == (None, None, None)


def test_margins_that_follow_lengths_correlate_with_them() -> None:
    longer = [look(side(*[0.1] * n), side(0.0)) for n in range(1, 25)]
    assert length_margin_correlation(longer) == pytest.approx(1)
    assert length_margin_correlation(longer[:2]) is None
    assert length_margin_correlation([longer[0]] * 5) is None
    (said,) = warnings_of(course(longer))
    assert said.startswith("length: the margin follows the difference in length (correlation +1.00)")


def test_chosen_completions_that_become_less_likely_are_displaced() -> None:
    falling = [look(side(-0.2), side(-0.9))]
    (said,) = warnings_of(course(falling))
    assert said.startswith("likelihood displacement: the margin grew by 0.07")
    assert "less likely since this run began (-0.200 nats a token)" in said
    assert not warnings_of(course(falling, chosen_before=-0.2))
    assert not warnings_of(course(falling, chosen_before=None))
    assert not warnings_of(course([look(side(0.2), side(-0.9))]))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"losses": losses(0.9, 0.6)},
            "first loss: it was 0.9000 where nothing had been trained and 0.6931 was due",
        ),
        ({"truncated_share": 0.6}, "truncation: 60% of the completions have no end token"),
    ],
)
def test_a_wrong_start_and_cut_completions_are_said(changes: dict[str, object], said: str) -> None:
    (warning,) = warnings_of(course([look(side(0.1), side(0.0))], **changes))
    assert warning.startswith(said)


def test_a_policy_far_from_its_reference_is_said_to_be() -> None:
    (said,) = warnings_of(course([look(side(1.5, 1.5), side(1.0))]))
    assert said.startswith("distance: on its training texts its log-probs are 1.25 nats a token away")


def test_one_token_that_became_likely_does_not_rule_the_distance() -> None:
    usual = side(*[0.1] * 99, 12.0)
    assert figures_of([look(usual, usual)]).absolute_log_ratio_per_token == pytest.approx(0.219)
    assert not warnings_of(course([look(usual, side(0.0))]))


def test_completions_without_an_end_token_are_counted() -> None:
    pair = random_pair(prompt=3, chosen=4, rejected=4)
    ended = replace(pair, chosen=(1, 2, 257), rejected=(1, 257))
    assert truncated_share([pair, ended], end_tokens=frozenset({257})) == 0.5


def test_a_loss_that_rises_far_above_its_start_is_divergence() -> None:
    usual = [look(side(0.1), side(0.0))]
    (said,) = warnings_of(course(usual, losses=losses(math.log(2), 3.0, 4.0, 5.0)))
    assert said.startswith("divergence: the loss rose from 0.693 to 4.5 (mean of steps 3 to 4)")
    assert not warnings_of(course(usual, losses=losses(math.log(2), 1.3, 1.2, 1.3)))


def test_a_policy_that_says_its_texts_as_before_has_not_changed() -> None:
    (said,) = warnings_of(course([look(side(0.00005), side(-0.00002))]))
    assert said.startswith("no change: the policy says its training texts as it did before (+5.0e-05")
    moved = [look(side(0.3), side(0.2))]
    assert not warnings_of(course(moved))
    assert warnings_of(course(moved, chosen_before=0.3, rejected_before=0.2))[0].startswith("no change")
    assert not warnings_of(course(moved, chosen_before=None, rejected_before=None))


def step(number: int, **figures: float) -> StepMetrics:
    names = {field.name: 0.0 for field in fields(StepMetrics)}
    return StepMetrics(**{**names, "loss": 0.69, **figures, "step": number})  # type: ignore[arg-type]


def alarms(**figures: float) -> list[str]:
    """The kinds of alarms after 20 steps that all have these figures."""
    steps = [step(number, **figures) for number in range(11, 21)]
    return [said.partition(":")[0] for said in step_alarms(step(1), steps, pairs_per_step=8, scale=USUAL)]


@pytest.mark.parametrize(
    ("figures", "kinds"),
    [
        ({"log_ratio_per_token_chosen": 0.1}, []),
        ({"log_ratio_per_token_chosen": 0.1, "loss": 1.5}, ["divergence"]),
        ({}, ["no change"]),
        ({"log_ratio_per_token_chosen": -0.1, "rewards_margins": 0.2}, ["likelihood displacement"]),
        ({"log_ratio_per_token_chosen": 0.1, "length_margin_correlation": 0.8}, ["length"]),
        ({"log_ratio_per_token_chosen": 0.1, "absolute_log_ratio_per_token": 1.1}, ["distance"]),
    ],
)
def test_the_latest_steps_say_what_the_end_would(figures: dict[str, float], kinds: list[str]) -> None:
    assert alarms(**figures) == kinds


def test_two_steps_are_too_few_for_an_alarm() -> None:
    steps = [step(2, loss=9.0), step(3, loss=9.0)]
    assert step_alarms(step(1), steps, pairs_per_step=8, scale=USUAL) == ()
