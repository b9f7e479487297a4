"""SimPO and ORPO, which compare the policy with itself alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.core.losses_support import gradient, logps, settings
from training.core.losses.reference_free import log_one_minus_exp, orpo_loss, simpo_loss
from training.core.losses.select import preference_loss

means = st.floats(-30, -0.001)


def log_odds(mean: float) -> float:
    return mean - math.log1p(-math.exp(mean))


def test_simpo_worked_out_by_hand() -> None:
    # l̄_w = −8/4 = −2, l̄_l = −11/5 = −2.2; β = 2, γ = 1: −ln σ(0.4 − 1)
    pair = logps(policy=(-8.0, -11.0), reference=None)
    expected = math.log1p(math.exp(0.6))
    assert preference_loss(pair, settings=settings("simpo")).item() == pytest.approx(expected)


def test_orpo_worked_out_by_hand() -> None:
    # Probabilities ½ and ¼ per token: odds 1 and ⅓, ratio 3; ln 2 − 0.1·ln σ(ln 3) = ln 2 − 0.1·ln ¾
    pair = logps(policy=(4 * math.log(0.5), 5 * math.log(0.25)), reference=None)
    expected = math.log(2) - 0.1 * math.log(0.75)
    assert preference_loss(pair, settings=settings("orpo")).item() == pytest.approx(expected)


@given(chosen=means, rejected=means, gamma=st.floats(0, 3))
def test_gradient_of_simpo_is_minus_beta_sigmoid_of_what_is_missing_to_the_target(
    chosen: float, rejected: float, gamma: float
) -> None:
    found = gradient(
        lambda mean: simpo_loss(mean, torch.tensor(rejected).double(), beta=2.0, gamma=gamma), at=chosen
    )
    other = torch.tensor(rejected).double().item()
    assert found == pytest.approx(-2 / (1 + math.exp(2 * (chosen - other) - gamma)), rel=1e-9)


@given(chosen=means, rejected=means)
def test_gradient_of_orpo_is_that_of_its_paper(chosen: float, rejected: float) -> None:
    """d/dl̄ of the log odds is 1/(1 − e^l̄): −1 − λ·σ(−log odds ratio)/(1 − e^l̄_w)."""
    other = torch.tensor(rejected, dtype=torch.float64)
    found = gradient(lambda mean: orpo_loss(mean, other, lambda_=0.3), at=chosen)
    against = 1 / (1 + math.exp(log_odds(chosen) - log_odds(rejected)))
    assert found == pytest.approx(-1 + 0.3 * -against / -math.expm1(chosen), rel=1e-8)


@given(u=st.floats(-700, -1e-12))
def test_log_one_minus_exp_keeps_its_digits(u: float) -> None:
    found = log_one_minus_exp(torch.tensor(u, dtype=torch.float64)).item()
    expected = math.log1p(-math.exp(u)) if u < -0.1 else math.log(-math.expm1(u))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("u", [0.0, -1e-9, -1e-7, -0.5, -math.log(2), -100.0, -1e5])
def test_log_one_minus_exp_is_finite_with_a_finite_gradient_up_to_zero(u: float) -> None:
    point = torch.tensor(u, requires_grad=True)
    value = log_one_minus_exp(point)
    (slope,) = torch.autograd.grad(value, point)
    assert math.isfinite(value.item())
    assert math.isfinite(slope.item())
