"""What a loss says of its run, told from the chance of small batches: made up, and steps of real runs."""

import math
import random
from collections.abc import Sequence

import pytest

from training.core.loss_course import (
    DEMONSTRATIONS,
    StepLoss,
    diverged,
    loss_alarms,
    loss_figures,
    mean_loss,
    preference_scale,
)

LN2 = math.log(2)
# Steps of four pairs of SmolLM2-135M: β = 1 continued from an earlier policy, which ended with accuracy 1;
# a run that rose for a while; and a learning rate of 1e-1 from the reference.
ENDED_WELL = (
    *(0.34, 1.43, 1.27, 0.38, 0.63, 0.25, 0.18, 0.78, 2.06, 0.00, 1.35, 0.05, 0.73, 0.13, 2.01, 2.02, 0.00),
    *(1.69, 0.00, 0.00, 0.03, 0.00, 1.85, 0.00, 2.53, 0.74, 0.27, 0.20, 0.37, 1.04, 0.01, 0.15, 0.00, 0.48),
    *(0.00, 0.01, 0.00, 0.00, 0.03, 0.36),
)
ROSE = (
    *(0.03, 0.08, 0.12, 0.58, 0.54, 0.87, 0.66, 0.11, 0.92, 0.42, 0.40, 0.33, 0.47, 0.48, 0.02),
    *(0.07, 0.41, 0.08, 0.04, 0.45, 0.13, 0.05, 0.06, 0.13, 0.00, 0.09, 0.00, 0.09, 9.28, 0.00),
    *(0.00, 0.01, 0.00, 11.49, 0.02, 0.01, 0.15, 0.00, 0.34, 1.54, 0.18, 0.00, 0.01, 0.01, 1.14),
    *(0.00, 0.25, 0.00, 0.79, 0.94, 0.00, 0.00, 0.04, 0.30, 0.00, 0.00, 0.00, 0.02),
)
AT_A_TENTH = (
    *(0.69, 2.50, 0.33, 0.00, 5.72, 0.00, 28.34, 10.20, 0.00, 16.77, 0.00, 1.91, 10.39, 0.31, 0.00),
)


def steps(*losses: float, examples: int = 4) -> list[StepLoss]:
    return [StepLoss(number, loss=loss, examples=examples) for number, loss in enumerate(losses, 1)]


def kinds(losses: Sequence[StepLoss], *, beta: float = 0.1) -> list[str]:
    said = loss_alarms(losses, scale=preference_scale({"name": "dpo", "beta": beta}))
    return [sentence.partition(":")[0] for sentence in said]


def test_the_loss_shown_is_a_mean_over_examples_and_not_one_batch() -> None:
    run = [*steps(*[0.8] * 10, *[0.1] * 9), StepLoss(20, loss=1.9, examples=1)]
    figures = loss_figures(run)
    assert (figures["loss_first"], figures["loss_last"], figures["loss_steps"]) == (0.8, 1.9, 10)
    assert figures["loss_start"] == pytest.approx(0.8)
    assert figures["loss_end"] == pytest.approx((9 * 4 * 0.1 + 1.9) / 37)


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 1), (3, 1), (7, 3), (20, 10), (400, 10)])
def test_short_runs_average_half_of_their_steps(count: int, shown: int) -> None:
    assert loss_figures(steps(*[0.5] * count))["loss_steps"] == shown


def test_a_run_that_ended_well_has_not_diverged_wherever_one_looks() -> None:
    run = steps(*ENDED_WELL)
    assert kinds(run, beta=1.0) == []
    assert {kind for end in range(2, 41) for kind in kinds(run[:end], beta=1.0)} <= {"unsteady loss"}


def test_a_loss_that_rose_and_came_back_is_told_as_such() -> None:
    (said,) = loss_alarms(steps(*ROSE), scale=preference_scale({}))
    assert said.startswith("unsteady loss: it rose from 0.03 to 3.84 (mean of steps 34 to 36)")
    assert "came back down to 0.209 (mean of steps 49 to 58)" in said


@pytest.mark.parametrize("count", range(7, 16))
def test_a_learning_rate_of_a_tenth_diverges_though_every_other_batch_is_easy(count: int) -> None:
    assert kinds(steps(*AT_A_TENTH[:count])) == ["divergence"]


@pytest.mark.parametrize("losses", [(LN2, 9.5), (LN2, 0.7, 9.5), (LN2, 4.0, 6.0, 5.0)])
def test_few_steps_are_enough_where_the_loss_is_far_beyond_chance(losses: tuple[float, ...]) -> None:
    assert kinds(steps(*losses)) == ["divergence"]


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_divergence(loss: float) -> None:
    assert kinds(steps(LN2, loss)) == ["divergence"]
    assert kinds(steps(LN2, 0.6, 0.6, 0.6, 0.5, loss)) == ["divergence"]


def test_one_step_says_nothing_of_where_the_loss_goes() -> None:
    assert kinds(steps(2.5)) == []


def test_one_bad_batch_at_the_end_is_no_divergence() -> None:
    assert kinds(steps(*[0.6] * 12, 30.0)) == []


def test_a_small_batch_must_rise_higher_than_a_large_one() -> None:
    losses = [LN2, *[0.6] * 4, *[1.5] * 6]
    assert kinds(steps(*losses, examples=2)) == []
    assert kinds(steps(*losses, examples=64)) == ["divergence"]


def test_a_larger_beta_spreads_losses_more_but_not_those_of_means_per_token() -> None:
    assert preference_scale({"name": "dpo", "beta": 5.0}).spread == 5 * preference_scale({"beta": 1.0}).spread
    assert preference_scale({"name": "dpo_norm", "beta": 5.0}).spread == preference_scale({}).spread


@pytest.mark.parametrize("beta", [0.1, 0.3, 1.0, 2.0])
def test_runs_whose_policy_stays_as_it_is_seldom_seem_to_diverge(beta: float) -> None:
    """Margins that scatter about 0 by 2·β nats or 2, whichever is more, in 400 runs of 12 steps of four."""
    chance = random.Random(0)

    def batch() -> float:
        return sum(math.log1p(math.exp(-chance.gauss(0.0, max(2.0, 2 * beta)))) for _ in range(4)) / 4

    found = [kinds(steps(LN2, *(batch() for _ in range(11))), beta=beta) for _ in range(400)]
    assert sum("divergence" in said for said in found) <= 8


@pytest.mark.parametrize(
    ("loss", "untrained"),
    [
        ({"name": "dpo", "beta": 0.1}, LN2),
        ({"name": "ipo", "beta": 0.1}, 25.0),
        ({"name": "hinge", "beta": 0.1}, 1.0),
        ({"name": "kto", "beta": 0.1}, 0.5),
        ({"name": "simpo", "beta": 2.0, "gamma": 1.0}, math.log(1 + math.e)),
        ({"name": "rao_kupper", "beta": 0.1, "nu": 3.0}, math.log(4)),
        ({"name": "davidson", "beta": 0.1, "nu": 1.0}, math.log(4)),
        ({"name": "davidson", "beta": 0.1, "nu": 0.0}, LN2),
        ({"name": "orpo", "lambda": 0.1}, None),
    ],
)
def test_the_loss_without_learning_is_that_of_equal_completions(
    loss: dict[str, object], untrained: float | None
) -> None:
    found = preference_scale(loss).untrained
    assert found == (None if untrained is None else pytest.approx(untrained))


def test_a_continued_policy_may_lose_what_it_knew_before_it_counts_as_apart() -> None:
    assert kinds(steps(0.1, *[0.6] * 20)) == []
    assert kinds(steps(0.1, *[3.0] * 20)) == ["divergence"]


def test_demonstrations_are_measured_by_their_own_start() -> None:
    assert loss_alarms(steps(2.0, 1.9, 2.4, 1.8, 2.2, 1.7), scale=DEMONSTRATIONS) == ()
    (said,) = loss_alarms(steps(2.0, 6.0, 8.8), scale=DEMONSTRATIONS)
    assert said.startswith("divergence: the loss rose from 2 to 8.8 (step 3)")


def test_while_a_run_goes_on_its_latest_steps_are_compared_with_the_first() -> None:
    first, *recent = steps(LN2, *[5.0] * 5)
    assert diverged(first, recent=recent, scale=preference_scale({})).startswith("divergence")
    assert mean_loss(recent) == 5.0
