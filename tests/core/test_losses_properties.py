"""What holds for every loss of pairs: order, symmetry, extremes, and who is asked for log-probs."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.core.losses_support import PAIR_LOSSES, logps, settings
from training.core.errors import TrainingError
from training.core.losses.inputs import PairLogps
from training.core.losses.select import preference_loss, uses_reference
from training.core.run.config import LOSS_KEYS, SOFT_LABEL_LOSSES, TIE_LOSSES

sums = st.floats(-200, -0.01)
names = st.sampled_from(PAIR_LOSSES)


def turned(pair: PairLogps) -> PairLogps:
    """The same pair with the sides exchanged, and so its label."""
    return PairLogps(
        policy_chosen=pair.policy_rejected,
        policy_rejected=pair.policy_chosen,
        reference_chosen=pair.reference_rejected,
        reference_rejected=pair.reference_chosen,
        chosen_tokens=pair.rejected_tokens,
        rejected_tokens=pair.chosen_tokens,
        p=1 - pair.p,
        tie=pair.tie,
    )


@given(
    name=st.sampled_from(SOFT_LABEL_LOSSES),
    policy=st.tuples(sums, sums),
    p=st.floats(0, 1),
    tie=st.booleans(),
)
def test_exchanging_the_sides_and_the_label_changes_nothing(
    name: str, policy: tuple[float, float], p: float, tie: bool
) -> None:
    pair = logps(policy=policy, reference=(-50.0, -60.0), p=p, tie=tie and name in TIE_LOSSES)
    loss = preference_loss(pair, settings=settings(name))
    assert preference_loss(turned(pair), settings=settings(name)).item() == pytest.approx(
        loss.item(), rel=1e-9, abs=1e-12
    )


@given(name=names, policy=st.tuples(sums, sums), gain=st.floats(0.01, 20))
def test_a_likelier_rejected_completion_never_lowers_a_loss_that_rises_with_the_margin(
    name: str, policy: tuple[float, float], gain: float
) -> None:
    if name.startswith("ipo") or name == "cdpo":  # they have a best margin and punish a larger one
        return
    pair = logps(policy=(policy[0], min(policy[1], -0.01 - gain)), reference=(-50.0, -60.0))
    likelier = replace(pair, policy_rejected=pair.policy_rejected + gain)
    before = preference_loss(pair, settings=settings(name)).item()
    assert preference_loss(likelier, settings=settings(name)).item() >= before - 1e-12


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_policy_that_prefers_as_people_do_has_the_smaller_loss(name: str) -> None:
    better = logps(policy=(-1.0, -9.0), reference=(-2.0, -2.0))
    worse = logps(policy=(-9.0, -1.0), reference=(-2.0, -2.0))
    assert preference_loss(better, settings=settings(name)) < preference_loss(worse, settings=settings(name))


@given(
    name=names,
    chosen=st.sampled_from([0.0, -1e-7, -1.0, -1e3, -1e5]),
    rejected=st.sampled_from([0.0, -1e-7, -1.0, -1e3, -1e5]),
    p=st.sampled_from([0.0, 0.3, 1.0]),
    tie=st.booleans(),
    alpha=st.sampled_from([None, 1.0]),
)
def test_extreme_log_probs_give_finite_float32_losses_and_gradients(
    name: str, chosen: float, rejected: float, p: float, tie: bool, alpha: float | None
) -> None:
    """Sums up to 1e5 nats apart are a βΔ of ±1e4 at β = 0.1, and 5e5 for the losses per token."""
    changes = {} if alpha is None or "nll_alpha" not in LOSS_KEYS[name] else {"nll_alpha": alpha}
    pair = logps(
        policy=(chosen, rejected),
        reference=(-1.0, -1.0) if uses_reference(settings(name)) else None,
        tokens=(1, 1),
        p=p,
        tie=tie and name in TIE_LOSSES,
        dtype=torch.float32,
    )
    loss = preference_loss(pair, settings=settings(name, **changes))
    gradients = torch.autograd.grad(loss, [pair.policy_chosen, pair.policy_rejected])
    assert torch.isfinite(loss).all()
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in PAIR_LOSSES if "nll_alpha" in LOSS_KEYS[name]])
def test_the_nll_term_adds_alpha_times_the_chosen_nll_per_token(name: str) -> None:
    pair = logps(policy=(-8.0, -11.0), reference=(-10.0, -10.0), tokens=(4, 5))
    plain = preference_loss(pair, settings=settings(name))
    with_nll = preference_loss(pair, settings=settings(name, nll_alpha=0.2))
    assert (with_nll - plain).item() == pytest.approx(0.2 * 8 / 4)


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_no_gradient_reaches_the_reference(name: str) -> None:
    pair = logps(policy=(-8.0, -11.0), reference=(-10.0, -10.0))
    assert pair.reference_chosen is not None
    pair.reference_chosen.requires_grad_()
    loss = preference_loss(pair, settings=settings(name))
    (found,) = torch.autograd.grad(loss, [pair.reference_chosen], allow_unused=True)
    assert found is None


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_a_loss_without_a_reference_never_asks_for_one_and_the_others_say_that_it_is_missing(
    name: str,
) -> None:
    pair = logps(policy=(-8.0, -11.0), reference=None)
    if uses_reference(settings(name)):
        with pytest.raises(TrainingError, match="compares with the reference"):
            preference_loss(pair, settings=settings(name))
    else:
        with_reference = logps(policy=(-8.0, -11.0), reference=(-3.0, -1e4))
        assert preference_loss(pair, settings=settings(name)) == preference_loss(
            with_reference, settings=settings(name)
        )


def test_only_simpo_and_orpo_use_no_reference() -> None:
    assert [name for name in LOSS_KEYS if not uses_reference(settings(name))] == ["simpo", "orpo"]


def test_a_loss_of_single_completions_is_no_loss_of_pairs() -> None:
    with pytest.raises(ValueError, match="kto is not a loss of pairs"):
        preference_loss(logps(policy=(-1.0, -2.0)), settings=settings("kto"))


def test_one_pair_has_the_same_loss_alone_and_in_a_batch() -> None:
    pairs = [logps(policy=(-3.0 * n, -5.0), reference=(-4.0, -4.0), tie=n == 2) for n in (1, 2, 3)]
    batch = PairLogps(**{key: torch.cat([vars(pair)[key] for pair in pairs]) for key in vars(pairs[0])})
    for name in TIE_LOSSES:
        alone = [preference_loss(pair, settings=settings(name)).item() for pair in pairs]
        assert preference_loss(batch, settings=settings(name)).tolist() == pytest.approx(alone, rel=1e-12)
