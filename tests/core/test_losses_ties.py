"""The losses that know ties: Rao–Kupper and Davidson."""

import functools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.core.losses_support import gradient, logps, settings
from training.core.losses.pairwise import dpo_loss
from training.core.losses.select import preference_loss
from training.core.losses.ties import VerdictLogProbs, davidson, rao_kupper, verdict_loss

margins = st.floats(-40, 40)
NO_TIE, TIE = torch.tensor(False), torch.tensor(True)


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


@given(d=margins, nu=st.floats(1.001, 20))
def test_win_tie_and_loss_of_rao_kupper_add_up_to_one(d: float, nu: float) -> None:
    verdicts = rao_kupper(number(d), nu=nu)
    total = verdicts.win.exp() + verdicts.tie.exp() + verdicts.loss.exp()
    assert total.item() == pytest.approx(1, rel=1e-9)


@given(d=margins, nu=st.floats(0.001, 20))
def test_win_tie_and_loss_of_davidson_add_up_to_one(d: float, nu: float) -> None:
    verdicts = davidson(number(d), nu=nu)
    total = verdicts.win.exp() + verdicts.tie.exp() + verdicts.loss.exp()
    assert total.item() == pytest.approx(1, rel=1e-9)


def test_equals_worked_out_by_hand() -> None:
    # d = 0. Rao–Kupper, ν = 3: σ(−ln 3) = ¼ each, tie 8/16 = ½. Davidson, ν = 1: ¼, ¼ and 2/4.
    for verdicts in (rao_kupper(number(0), nu=3), davidson(number(0), nu=1)):
        assert verdicts.win.exp().item() == pytest.approx(0.25)
        assert verdicts.loss.exp().item() == pytest.approx(0.25)
        assert verdicts.tie.exp().item() == pytest.approx(0.5)


def test_a_clear_margin_worked_out_by_hand() -> None:
    # d = ln 4. Rao–Kupper, ν = 2: win 4/(4 + 2), loss 1/(1 + 8), tie 3·(2/3)·(1/9).
    verdicts = rao_kupper(number(math.log(4)), nu=2)
    assert [float(verdict.exp()) for verdict in (verdicts.win, verdicts.tie, verdicts.loss)] == pytest.approx(
        [2 / 3, 2 / 9, 1 / 9]
    )
    # Davidson, ν = ¾: N = 1 + ¼ + 1.5·½ = 2: win ½, tie ⅜, loss ⅛.
    verdicts = davidson(number(math.log(4)), nu=0.75)
    assert [float(verdict.exp()) for verdict in (verdicts.win, verdicts.tie, verdicts.loss)] == pytest.approx(
        [1 / 2, 3 / 8, 1 / 8]
    )


@given(d=margins, p=st.sampled_from([0.0, 0.4, 1.0]))
def test_a_nu_that_knows_no_ties_reduces_to_dpo_in_value_and_gradient(d: float, p: float) -> None:
    models = (functools.partial(rao_kupper, nu=1.0), functools.partial(davidson, nu=0.0))
    for model in models:
        loss = functools.partial(tieless_loss, model=model, p=p)
        assert loss(number(d)).item() == pytest.approx(dpo_loss(number(d), beta=1, p=p).item(), rel=1e-9)
        slope = gradient(lambda x: dpo_loss(x, beta=1, p=p), at=d)
        assert gradient(loss, at=d) == pytest.approx(slope, rel=1e-9, abs=1e-15)


def tieless_loss(d: Tensor, *, model: Callable[[Tensor], VerdictLogProbs], p: float) -> Tensor:
    return verdict_loss(model(d), p=p, tie=NO_TIE)


@given(d=margins)
def test_gradients_are_their_closed_forms(d: float) -> None:
    """Rao–Kupper: win −σ(−d + ln ν), tie σ(d − ln ν) − σ(−d − ln ν). Davidson: ½·(1 + P(loss) − P(win)) − 1
    and ½·(P(win) − P(loss)).
    """
    shifted_down, shifted_up = 1 / (1 + math.exp(d - math.log(3))), 1 / (1 + math.exp(-d - math.log(3)))

    def rao_kupper_loss(x: Tensor, tie: Tensor) -> Tensor:
        return verdict_loss(rao_kupper(x, nu=3), p=1.0, tie=tie)

    def davidson_loss(x: Tensor, tie: Tensor) -> Tensor:
        return verdict_loss(davidson(x, nu=1), p=1.0, tie=tie)

    assert gradient(lambda x: rao_kupper_loss(x, NO_TIE), at=d) == pytest.approx(-shifted_down, rel=1e-9)
    lower = 1 / (1 + math.exp(d + math.log(3)))
    assert gradient(lambda x: rao_kupper_loss(x, TIE), at=d) == pytest.approx(
        (1 - shifted_down) - lower, rel=1e-9, abs=1e-12
    )
    assert shifted_up == pytest.approx(1 - lower)
    win, loss = (
        float(value.exp()) for value in (davidson(number(d), nu=1).win, davidson(number(d), nu=1).loss)
    )
    half = (win - loss) / 2
    assert gradient(lambda x: davidson_loss(x, NO_TIE), at=d) == pytest.approx(
        half - 0.5, rel=1e-9, abs=1e-12
    )
    assert gradient(lambda x: davidson_loss(x, TIE), at=d) == pytest.approx(half, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", ["rao_kupper", "davidson"])
def test_a_tie_is_likeliest_where_the_policy_sees_no_difference(name: str) -> None:
    def loss(delta: float) -> float:
        pair = logps(policy=(delta, 0.0), tie=True)
        return preference_loss(pair, settings=settings(name, beta=1.0)).item()

    assert loss(0) == pytest.approx(math.log(2))
    assert loss(0) < loss(0.5) < loss(2)
    assert loss(-2) == pytest.approx(loss(2))
