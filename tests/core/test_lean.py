"""The leaner layers against those that they replace: LoRA, norms, gated MLPs, and the head in chunks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tests.core.models import made_model
from tests.core.support import gradients, random_pair, shake
from training.core.logprobs.head import Head, chunked_token_logps
from training.core.logprobs.pairs import group_logps
from training.core.logprobs.paths import logps_path
from training.core.model.lean import make_lean
from training.core.model.loading import reference_mode

PAIRS = [random_pair(prompt=7, chosen=5, rejected=9), random_pair(prompt=3, chosen=2, rejected=4, seed=1)]


def adapted(kind: str, *, lean: bool, **changes: Any) -> Any:
    """A tiny model with a LoRA adapter of random weights on all linear layers; equal in every call."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **changes}
    base = made_model(kind).requires_grad_(False)
    policy: Any = get_peft_model(base, LoraConfig(**settings))  # type: ignore[no-untyped-call,arg-type,unused-ignore]
    policy.eval()
    shake(policy, seed=1)
    if lean:
        make_lean(policy)
    return policy


def loss_of(policy: nn.Module) -> Tensor:
    every = group_logps(policy, pairs=PAIRS)
    return torch.stack([pair.chosen.sum() - 0.5 * pair.rejected.sum() for pair in every]).sum()


def assert_equal_training(first: nn.Module, second: nn.Module) -> None:
    losses = [loss_of(policy) for policy in (first, second)]
    assert torch.allclose(losses[0], losses[1], rtol=1e-4)
    for loss in losses:
        torch.autograd.backward(loss)
    ours, theirs = gradients(first), gradients(second)
    assert list(ours) == list(theirs)
    assert ours
    for name, gradient in theirs.items():
        assert ours[name].dtype == torch.float32
        assert float((ours[name] - gradient).norm()) <= 1e-4 * float(gradient.norm()) + 1e-7, name


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gemma2", "gpt-neox"])
def test_log_probs_and_gradients_are_those_of_peft(kind: str) -> None:
    assert_equal_training(adapted(kind, lean=True), adapted(kind, lean=False))


@pytest.mark.parametrize(
    "changes", [{"use_dora": True}, {"lora_bias": True}, {"lora_dropout": 0.3}, {"use_rslora": True}]
)
def test_adapters_of_other_kinds_stay_right(changes: dict[str, Any]) -> None:
    assert_equal_training(adapted("llama", lean=True, **changes), adapted("llama", lean=False, **changes))


@pytest.mark.parametrize("lean", [True, False])
def test_recomputed_activations_give_the_same_gradients(lean: bool) -> None:
    recomputing = adapted("llama", lean=lean)
    recomputing.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    logps_path(recomputing)
    with counted_layers(recomputing) as seen:
        recomputing.train()
        assert_equal_training(recomputing, adapted("llama", lean=lean))
    assert len(seen) == 4, "two layers, each computed twice"


@contextmanager
def counted_layers(policy: Any) -> Iterator[list[int]]:
    seen: list[int] = []
    layers = policy.get_base_model().base_model.layers
    hooks = [layer.mlp.register_forward_pre_hook(lambda *_: seen.append(1)) for layer in layers]
    yield seen
    for hook in hooks:
        hook.remove()


def test_with_the_adapter_off_it_is_the_base_itself() -> None:
    policy = adapted("llama", lean=True)
    with reference_mode(policy):
        found = group_logps(policy, pairs=PAIRS)
    with torch.no_grad():
        wanted = group_logps(made_model("llama"), pairs=PAIRS)
    for one, other in zip(found, wanted, strict=True):
        assert torch.allclose(one.chosen, other.chosen, atol=1e-5)


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("trained", [True, False])
def test_the_head_in_chunks_has_the_gradients_of_all_logits_at_once(cap: float | None, trained: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(11, 8, generator=generator, requires_grad=True)
    weight = torch.randn(40, 8, generator=generator).requires_grad_(trained)
    bias = torch.randn(40, generator=generator).requires_grad_(trained)
    targets = torch.randint(0, 40, (11,), generator=generator)
    slopes = torch.randn(11, generator=generator)
    leaves = [hidden, weight, bias] if trained else [hidden]

    head = Head(weight=weight, bias=bias, cap=cap)
    found = chunked_token_logps(hidden, head=head, targets=targets, chunk_tokens=4)
    ours = torch.autograd.grad(found @ slopes, leaves)
    logits = hidden @ weight.T + bias
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    wanted = logits.log_softmax(1)[torch.arange(11), targets]
    assert torch.allclose(found, wanted, atol=1e-5)
    for one, other in zip(ours, torch.autograd.grad(wanted @ slopes, leaves), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
