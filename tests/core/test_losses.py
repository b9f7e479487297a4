"""The losses of a pair's log-ratios against numbers worked out by hand; gradients and reductions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.losses_support import gradient, logps, settings
from training.core.losses.pairwise import (
    cdpo_loss,
    dpo_loss,
    dpo_norm_loss,
    hinge_loss,
    ipo_loss,
    robust_loss,
)
from training.core.losses.rewards import pair_rewards
from training.core.losses.select import preference_loss

finite = st.floats(-50, 50)
betas = st.sampled_from([0.01, 0.1, 0.5, 2.0])
smoothings = st.floats(0, 0.49)


def dpo_by_hand(*, delta: float, beta: float) -> float:
    return math.log1p(math.exp(-beta * delta))


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_dpo_of_log_probs_worked_out_by_hand() -> None:
    # h_w = −4.5 − (−5.0) = 0.5; h_l = −4.5 − (−4.0) = −0.5; Δ = 1; βΔ = 0.1.
    pair = logps(policy=(-4.5, -4.5), reference=(-5.0, -4.0))
    assert pair.delta.item() == 1.0
    chosen, rejected = pair_rewards(pair, settings=settings("dpo", beta=0.1))
    assert (chosen - rejected).item() == pytest.approx(0.1, abs=1e-12)
    assert torch.sigmoid(chosen - rejected).item() == pytest.approx(0.52497918747894, abs=1e-12)
    assert dpo_loss(pair.delta, beta=0.1).item() == pytest.approx(0.64439666007357, abs=1e-12)
    # The gradient's weight σ(−βΔ) = 0.4750, times −β.
    (weight,) = torch.autograd.grad(dpo_loss(pair.delta, beta=0.1), pair.policy_chosen)
    assert weight.item() == pytest.approx(-0.1 * 0.47502081252106, abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "delta", "loss", "rounded"),
    [
        # Δ = ln(0.25/0.2) − ln(0.35/0.3) = ln(15/14), and e^(−βΔ) = √(14/15)
        ((0.25, 0.35), math.log(15 / 14), math.log(1 + math.sqrt(14 / 15)), (0.0690, 0.6760)),
        # Δ = ln(0.35/0.2) − ln(0.05/0.3) = ln(21/2), and e^(−βΔ) = √(2/21)
        ((0.35, 0.05), math.log(21 / 2), math.log(1 + math.sqrt(2 / 21)), (2.3514, 0.2690)),
    ],
)
def test_dpo_of_probabilities_worked_out_by_hand(
    policy: tuple[float, float], delta: float, loss: float, rounded: tuple[float, float]
) -> None:
    pair = logps(policy=(math.log(policy[0]), math.log(policy[1])), reference=(math.log(0.2), math.log(0.3)))
    assert pair.delta.item() == pytest.approx(delta, abs=1e-12)
    assert dpo_loss(pair.delta, beta=0.5).item() == pytest.approx(loss, abs=1e-12)
    assert (round(delta, 4), round(loss, 4)) == rounded


def test_equal_policy_and_reference_give_ln_2_and_no_margin() -> None:
    pair = logps(policy=(-3.0, -7.0), reference=(-3.0, -7.0))
    assert pair.delta.item() == 0
    assert dpo_loss(pair.delta.float(), beta=0.1).item() == torch.tensor(2.0).log().item()


@given(h_w=finite, h_l=finite, beta=betas)
def test_gradient_of_dpo_is_minus_beta_sigmoid_of_minus_the_margin(
    h_w: float, h_l: float, beta: float
) -> None:
    pair = logps(policy=(h_w, h_l))
    loss = preference_loss(pair, settings=settings("dpo", beta=beta))
    chosen, rejected = torch.autograd.grad(loss, [pair.policy_chosen, pair.policy_rejected])
    expected = -beta / (1 + math.exp(beta * (h_w - h_l)))
    assert chosen.item() == pytest.approx(expected, rel=1e-9)
    assert rejected.item() == pytest.approx(-expected, rel=1e-9)


@given(delta=finite, beta=betas, smoothing=smoothings)
def test_gradients_of_the_other_losses_are_their_closed_forms(
    delta: float, beta: float, smoothing: float
) -> None:
    down, up = 1 / (1 + math.exp(beta * delta)), 1 / (1 + math.exp(-beta * delta))
    closed_forms = {
        -beta * ((1 - smoothing) * down - smoothing * up): lambda d: cdpo_loss(
            d, beta=beta, label_smoothing=smoothing
        ),
        -beta * ((1 - smoothing) * down + smoothing * up) / (1 - 2 * smoothing): lambda d: robust_loss(
            d, beta=beta, label_smoothing=smoothing
        ),
        2 * (delta - 1 / (2 * beta)): lambda d: ipo_loss(d, beta=beta),
        -beta * (beta * delta < 1): lambda d: hinge_loss(d, beta=beta),
        -beta * down: lambda d: dpo_norm_loss(d, beta=beta),
    }
    for expected, loss in closed_forms.items():
        assert gradient(loss, at=delta) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@given(delta=finite, beta=betas)
def test_hard_labels_and_no_smoothing_reduce_to_dpo(delta: float, beta: float) -> None:
    value = number(delta)
    plain = dpo_by_hand(delta=delta, beta=beta)
    turned = dpo_by_hand(delta=-delta, beta=beta)
    assert dpo_loss(value, beta=beta, p=1.0).item() == pytest.approx(plain, rel=1e-9)
    assert dpo_loss(value, beta=beta, p=0.0).item() == pytest.approx(turned, rel=1e-9)
    assert cdpo_loss(value, beta=beta, label_smoothing=0.0).item() == pytest.approx(plain, rel=1e-9)
    assert robust_loss(value, beta=beta, label_smoothing=0.0).item() == pytest.approx(plain, rel=1e-9)
    assert dpo_norm_loss(value, beta=beta).item() == pytest.approx(plain, rel=1e-9)
    assert cdpo_loss(value, beta=beta, label_smoothing=0.2).item() == pytest.approx(
        0.8 * plain + 0.2 * turned, rel=1e-9
    )


@given(delta=finite, beta=betas, smoothing=smoothings)
def test_robust_averages_to_dpo_over_labels_flipped_as_often_as_it_assumes(
    delta: float, beta: float, smoothing: float
) -> None:
    as_given = robust_loss(number(delta), beta=beta, label_smoothing=smoothing)
    flipped = robust_loss(number(-delta), beta=beta, label_smoothing=smoothing)
    mean = (1 - smoothing) * as_given + smoothing * flipped
    assert mean.item() == pytest.approx(dpo_by_hand(delta=delta, beta=beta), rel=1e-6, abs=1e-9)


@given(p=st.floats(0.01, 0.99), beta=betas)
def test_a_soft_label_is_at_its_optimum_where_the_margin_is_its_logit(p: float, beta: float) -> None:
    optimum = math.log(p / (1 - p)) / beta
    assert gradient(lambda delta: dpo_loss(delta, beta=beta, p=p), at=optimum) == pytest.approx(0, abs=1e-12)


def test_ipo_averages_over_length_and_ipo_sum_does_not() -> None:
    # h_w = 2 over 4 tokens, h_l = −1 over 5: 0.5 + 0.2 = 0.7, target 1/(2·0.5) = 1; summed 3.
    pair = logps(policy=(-8.0, -11.0), reference=(-10.0, -10.0))
    assert preference_loss(pair, settings=settings("ipo", beta=0.5)).item() == pytest.approx(0.09)
    assert preference_loss(pair, settings=settings("ipo_sum", beta=0.5)).item() == pytest.approx(4)
    assert ipo_loss(torch.tensor(1.0), beta=0.5).item() == 0


def test_dpo_norm_averages_each_log_ratio_over_its_own_length() -> None:
    # 0.5 + 0.2 = 0.7 as above, β 5: −ln σ(3.5)
    pair = logps(policy=(-8.0, -11.0), reference=(-10.0, -10.0))
    expected = math.log1p(math.exp(-3.5))
    assert preference_loss(pair, settings=settings("dpo_norm")).item() == pytest.approx(expected)


def test_robust_worked_out_by_hand() -> None:
    # βΔ = 0: (−0.9·ln ½ + 0.1·ln ½)/0.8 = ln 2; βΔ = ln 3: σ = ¾, (0.9·ln(4/3) − 0.1·ln 4)/0.8
    assert robust_loss(number(0), beta=1, label_smoothing=0.1).item() == pytest.approx(math.log(2))
    expected = (0.9 * math.log(4 / 3) - 0.1 * math.log(4)) / 0.8
    assert robust_loss(number(math.log(3)), beta=1, label_smoothing=0.1).item() == pytest.approx(expected)


def test_hinge_is_zero_beyond_a_margin_of_one() -> None:
    delta = torch.tensor([-1.0, 0.0, 5.0, 20.0])
    assert hinge_loss(delta, beta=0.1).tolist() == pytest.approx([1.1, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("name", ["dpo", "ipo", "dpo_norm", "rao_kupper"])
def test_rewards_are_beta_times_the_log_ratio(name: str) -> None:
    pair = logps(policy=(-4.0, -9.0), reference=(-5.0, -6.0))
    chosen, rejected = pair_rewards(pair, settings=settings(name, beta=0.1))
    assert (chosen.item(), rejected.item()) == pytest.approx((0.1, -0.3))


def test_without_a_reference_rewards_are_scaled_log_probs_per_token() -> None:
    pair = logps(policy=(-8.0, -11.0), reference=None, tokens=(4, 5))
    chosen, rejected = pair_rewards(pair, settings=settings("simpo", beta=2.0))
    assert (chosen.item(), rejected.item()) == pytest.approx((-4.0, -4.4))
    chosen, rejected = pair_rewards(pair, settings=settings("orpo", **{"lambda": 0.1}))
    assert (chosen.item(), rejected.item()) == pytest.approx((-0.2, -0.22))
