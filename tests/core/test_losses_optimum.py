"""The optimum that theory promises, reached on a tabular policy where everything can be counted."""

import pytest
import torch
from torch import Tensor

from training.core.losses.pairwise import dpo_loss
from training.core.losses.ties import VerdictLogProbs, davidson, rao_kupper

CONTEXTS, RESPONSES = 5, 10


def tabular_world() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """True rewards and reference log-probs, (contexts, responses), and the two sides of every pair of
    responses.
    """
    generator = torch.Generator().manual_seed(7)
    true_reward = torch.rand(CONTEXTS, RESPONSES, generator=generator, dtype=torch.float64)
    reference = torch.randn(CONTEXTS, RESPONSES, generator=generator, dtype=torch.float64).log_softmax(1)
    first, second = torch.triu_indices(RESPONSES, RESPONSES, offset=1)
    return true_reward, reference, first, second


def minimised(reference: Tensor, loss_of_delta: object, first: Tensor, second: Tensor) -> Tensor:
    """The policy, (contexts, responses), that minimises the mean loss over all pairs of responses."""
    assert callable(loss_of_delta)
    policy_logits = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [policy_logits],
        max_iter=2000,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        h = policy_logits.log_softmax(1) - reference
        loss: Tensor = loss_of_delta(h[:, first] - h[:, second]).mean()
        torch.autograd.backward(loss)
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call,unused-ignore]
    return policy_logits.detach().softmax(1)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_soft_labels_of_a_true_reward_recover_the_optimal_policy(beta: float) -> None:
    """On all pairs, with p = σ(r₁ − r₂), the minimum is π*(y|x) ∝ π_ref(y|x)·exp(r(x, y)/β)."""
    true_reward, reference, first, second = tabular_world()
    p = torch.sigmoid(true_reward[:, first] - true_reward[:, second])
    found = minimised(reference, lambda delta: dpo_loss(delta, beta=beta, p=p), first, second)
    optimum = (reference + true_reward / beta).softmax(1)
    assert torch.allclose(found, optimum, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("model", "nu"), [(rao_kupper, 3.0), (davidson, 1.0)])
def test_verdicts_with_ties_recover_the_optimal_policy(model: object, nu: float) -> None:
    """With win, tie and loss as often as the model says of the true rewards, the minimum is the same π*."""
    assert callable(model)
    true_reward, reference, first, second = tabular_world()
    often: VerdictLogProbs = model(true_reward[:, first] - true_reward[:, second], nu=nu)

    def loss(delta: Tensor) -> Tensor:
        seen: VerdictLogProbs = model(0.5 * delta, nu=nu)
        return -(often.win.exp() * seen.win + often.tie.exp() * seen.tie + often.loss.exp() * seen.loss)

    found = minimised(reference, loss, first, second)
    assert torch.allclose(found, (reference + true_reward / 0.5).softmax(1), rtol=0, atol=1e-4)
