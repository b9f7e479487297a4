"""KTO: single completions against a reference point."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.losses_support import settings
from training.core.losses.kto import kto_loss, reference_point

ratios = st.floats(-100, 100)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def loss(log_ratio: float, *, desirable: bool, z: float = 0.0, **changes: float) -> Tensor:
    return kto_loss(
        number(log_ratio)[None],
        desirable=torch.tensor([desirable]),
        z=number(z),
        settings=settings("kto", **changes),
    )[0]


def test_kto_worked_out_by_hand() -> None:
    # β(h − z) = 0.1·(ln 3·10 + 2 − 2) = ln 3: σ = ¾; weights 1.5 and 0.5
    h, z = 10 * math.log(3) + 2, 2.0
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    assert loss(h, desirable=True, z=z, **weights).item() == pytest.approx(1.5 * 0.25)
    assert loss(h, desirable=False, z=z, **weights).item() == pytest.approx(0.5 * 0.75)


def test_the_reference_point_is_the_mean_mismatched_log_ratio_and_never_below_zero() -> None:
    assert reference_point(torch.tensor([1.0, 2.0, 6.0])).item() == 3
    assert reference_point(torch.tensor([1.0, -2.0])).item() == 0
    assert reference_point(torch.tensor([])).item() == 0


def test_no_gradient_flows_through_the_reference_point() -> None:
    h = torch.tensor([1.0, -1.0], requires_grad=True)
    mismatched = torch.tensor([1.0, 3.0], requires_grad=True)
    losses = kto_loss(
        h, desirable=torch.tensor([True, False]), z=reference_point(mismatched), settings=settings("kto")
    )
    torch.autograd.backward(losses.sum())
    assert mismatched.grad is None
    assert h.grad is not None


@given(h=ratios, z=st.floats(0, 50), beta=st.sampled_from([0.1, 0.5]))
def test_gradient_of_kto_is_beta_times_the_slope_of_the_sigmoid(h: float, z: float, beta: float) -> None:
    point = number(h).requires_grad_()
    sigmoid = 1 / (1 + math.exp(-beta * (h - z)))
    for desirable, sign in ((True, -1), (False, 1)):
        value = kto_loss(
            point[None], desirable=torch.tensor([desirable]), z=number(z), settings=settings("kto", beta=beta)
        )[0]
        (slope,) = torch.autograd.grad(value, point)
        assert slope.item() == pytest.approx(sign * beta * sigmoid * (1 - sigmoid), rel=1e-6, abs=1e-12)


@given(h=ratios, gain=st.floats(0.1, 10))
def test_a_likelier_completion_is_good_when_desirable_and_bad_when_not(h: float, gain: float) -> None:
    assert loss(h + gain, desirable=True) <= loss(h, desirable=True)
    assert loss(h + gain, desirable=False) >= loss(h, desirable=False)
    assert loss(h, desirable=True).item() == pytest.approx(loss(-h, desirable=False).item(), rel=1e-9)


@pytest.mark.parametrize("h", [-1e5, 0.0, 1e5])
def test_extreme_log_ratios_give_finite_float32_losses_and_gradients(h: float) -> None:
    point = torch.tensor([h, h], requires_grad=True)
    losses = kto_loss(
        point, desirable=torch.tensor([True, False]), z=torch.tensor(0.0), settings=settings("kto")
    )
    torch.autograd.backward(losses.sum())
    assert torch.isfinite(losses).all()
    assert point.grad is not None
    assert torch.isfinite(point.grad).all()
