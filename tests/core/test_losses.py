"""The losses against numbers worked out by hand, their reductions, and the optimum that theory promises."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from training.core.losses.pairwise import (
    PairLogps,
    accuracies,
    cdpo_loss,
    dpo_loss,
    hinge_loss,
    ipo_loss,
    margins,
    preference_loss,
    rewards,
)
from training.core.run.config import LOSS_KEYS, LossSettings

finite = st.floats(-50, 50)
betas = st.sampled_from([0.01, 0.1, 0.5, 2.0])


def logps(
    *,
    policy: tuple[float, float],
    reference: tuple[float, float],
    tokens: tuple[int, int] = (4, 5),
    p: float = 1.0,
) -> PairLogps:
    def value(number: float) -> Tensor:
        return torch.tensor([number], dtype=torch.float64)

    return PairLogps(
        policy_chosen=value(policy[0]),
        policy_rejected=value(policy[1]),
        reference_chosen=value(reference[0]),
        reference_rejected=value(reference[1]),
        chosen_tokens=value(tokens[0]),
        rejected_tokens=value(tokens[1]),
        p=value(p),
    )


def dpo_by_hand(*, delta: float, beta: float) -> float:
    return math.log1p(math.exp(-beta * delta))


def test_dpo_of_log_probs_worked_out_by_hand() -> None:
    # h_w = −4.5 − (−5.0) = 0.5; h_l = −4.5 − (−4.0) = −0.5; Δ = 1; βΔ = 0.1.
    pair = logps(policy=(-4.5, -4.5), reference=(-5.0, -4.0))
    assert pair.delta.item() == 1.0
    assert margins(pair, beta=0.1).item() == pytest.approx(0.1, abs=1e-12)
    assert accuracies(pair).item() == 1.0
    assert torch.sigmoid(margins(pair, beta=0.1)).item() == pytest.approx(0.52497918747894, abs=1e-12)
    assert dpo_loss(pair.delta, beta=0.1).item() == pytest.approx(0.64439666007357, abs=1e-12)


@pytest.mark.parametrize(
    ("policy", "delta", "loss"),
    [
        # Δ = ln(0.25/0.2) − ln(0.35/0.3) = ln(15/14), and e^(−βΔ) = √(14/15): about 0.6760
        ((0.25, 0.35), math.log(15 / 14), math.log(1 + math.sqrt(14 / 15))),
        # Δ = ln(0.35/0.2) − ln(0.05/0.3) = ln(21/2), and e^(−βΔ) = √(2/21): about 0.2690
        ((0.35, 0.05), math.log(21 / 2), math.log(1 + math.sqrt(2 / 21))),
    ],
)
def test_dpo_of_probabilities_worked_out_by_hand(
    policy: tuple[float, float], delta: float, loss: float
) -> None:
    pair = logps(policy=(math.log(policy[0]), math.log(policy[1])), reference=(math.log(0.2), math.log(0.3)))
    assert pair.delta.item() == pytest.approx(delta, abs=1e-12)
    assert dpo_loss(pair.delta, beta=0.5).item() == pytest.approx(loss, abs=1e-12)


def test_equal_policy_and_reference_give_ln_2_and_no_margin() -> None:
    pair = logps(policy=(-3.0, -7.0), reference=(-3.0, -7.0))
    assert pair.delta.item() == 0
    assert dpo_loss(pair.delta.float(), beta=0.1).item() == torch.tensor(2.0).log().item()
    assert accuracies(pair).item() == 0


@given(h_w=finite, h_l=finite, beta=betas)
def test_gradient_of_dpo_is_minus_beta_sigmoid_of_minus_the_margin(
    h_w: float, h_l: float, beta: float
) -> None:
    chosen = torch.tensor(h_w, dtype=torch.float64, requires_grad=True)
    rejected = torch.tensor(h_l, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(dpo_loss(chosen - rejected, beta=beta))
    expected = -beta / (1 + math.exp(beta * (h_w - h_l)))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(expected, rel=1e-9)
    assert rejected.grad.item() == pytest.approx(-expected, rel=1e-9)


@given(delta=finite, beta=betas)
def test_hard_labels_and_no_smoothing_reduce_to_dpo(delta: float, beta: float) -> None:
    value = torch.tensor(delta, dtype=torch.float64)
    plain = dpo_by_hand(delta=delta, beta=beta)
    turned = dpo_by_hand(delta=-delta, beta=beta)
    assert dpo_loss(value, beta=beta, p=1.0).item() == pytest.approx(plain, rel=1e-9)
    assert dpo_loss(value, beta=beta, p=0.0).item() == pytest.approx(turned, rel=1e-9)
    assert cdpo_loss(value, beta=beta, label_smoothing=0.0).item() == pytest.approx(plain, rel=1e-9)
    assert cdpo_loss(value, beta=beta, label_smoothing=0.2).item() == pytest.approx(
        0.8 * plain + 0.2 * turned, rel=1e-9
    )


@given(p=st.floats(0.01, 0.99), beta=betas)
def test_a_soft_label_is_at_its_optimum_where_the_margin_is_its_logit(p: float, beta: float) -> None:
    delta = torch.tensor(math.log(p / (1 - p)) / beta, dtype=torch.float64, requires_grad=True)
    torch.autograd.backward(dpo_loss(delta, beta=beta, p=p))
    assert delta.grad is not None
    assert delta.grad.item() == pytest.approx(0, abs=1e-12)


def test_ipo_averages_over_length_and_ipo_sum_does_not() -> None:
    # h_w = 2 over 4 tokens, h_l = −1 over 5: 0.5 + 0.2 = 0.7, target 1/(2·0.5) = 1; summed 3.
    pair = logps(policy=(-8.0, -11.0), reference=(-10.0, -10.0))
    assert preference_loss(pair, settings=LossSettings(name="ipo", beta=0.5)).item() == pytest.approx(0.09)
    assert preference_loss(pair, settings=LossSettings(name="ipo_sum", beta=0.5)).item() == pytest.approx(4)
    assert ipo_loss(torch.tensor(1.0), beta=0.5).item() == 0


def test_hinge_is_zero_beyond_a_margin_of_one() -> None:
    delta = torch.tensor([-1.0, 0.0, 5.0, 20.0])
    assert hinge_loss(delta, beta=0.1).tolist() == pytest.approx([1.1, 1.0, 0.5, 0.0])


@pytest.mark.parametrize("name", ["dpo", "cdpo", "ipo", "ipo_sum", "hinge"])
def test_every_loss_that_a_configuration_may_name_has_a_function(name: str) -> None:
    smoothing = 0.1 if "label_smoothing" in LOSS_KEYS[name] else None
    better = logps(policy=(-1.0, -9.0), reference=(-2.0, -2.0))
    worse = logps(policy=(-9.0, -1.0), reference=(-2.0, -2.0))
    settings = LossSettings(name=name, beta=0.1, label_smoothing=smoothing)
    assert preference_loss(better, settings=settings) < preference_loss(worse, settings=settings)


def test_rewards_are_beta_times_the_log_ratio() -> None:
    pair = logps(policy=(-4.0, -9.0), reference=(-5.0, -6.0))
    assert rewards(pair.chosen_log_ratio, beta=0.1).item() == pytest.approx(0.1)
    assert rewards(pair.rejected_log_ratio, beta=0.1).item() == pytest.approx(-0.3)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_soft_labels_of_a_true_reward_recover_the_optimal_policy(beta: float) -> None:
    """On all pairs, with p = σ(r₁ − r₂), the minimum is π*(y|x) ∝ π_ref(y|x)·exp(r(x, y)/β)."""
    generator = torch.Generator().manual_seed(7)
    contexts, responses = 3, 5
    true_reward = torch.rand(contexts, responses, generator=generator, dtype=torch.float64)
    reference = torch.randn(contexts, responses, generator=generator, dtype=torch.float64).log_softmax(1)
    policy_logits = reference.clone().requires_grad_()
    first, second = torch.triu_indices(responses, responses, offset=1)
    p = torch.sigmoid(true_reward[:, first] - true_reward[:, second])
    optimizer = torch.optim.LBFGS(
        [policy_logits],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        h = policy_logits.log_softmax(1) - reference
        loss = dpo_loss(h[:, first] - h[:, second], beta=beta, p=p).mean()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call,unused-ignore]
    optimum = (reference + true_reward / beta).softmax(1)
    assert torch.allclose(policy_logits.softmax(1), optimum, atol=1e-4)
