"""Log-probs and their gradients against a naive float32 implementation, for many kinds of models."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.core.models import KINDS, LEFT_TO_THEMSELVES, SHARING, made_model, naive_gradient, naive_logps
from tests.core.support import plain_pair_logps, random_pair
from training.core.data.encode import EncodedPair
from training.core.logprobs.pairs import (
    completion_token_logps,
    completions_token_logps,
    group_logps,
    passes,
)
from training.core.logprobs.paths import logps_path, token_logps

PAIRS = [
    random_pair(prompt=7, chosen=5, rejected=9),
    random_pair(prompt=1, chosen=1, rejected=1, seed=1),
    random_pair(prompt=20, chosen=1, rejected=12, seed=2),
    random_pair(prompt=2, chosen=30, rejected=3, seed=3),
]


@pytest.fixture(scope="module", params=KINDS)
def any_model(request: pytest.FixtureRequest) -> nn.Module:
    return made_model(request.param)


@pytest.fixture(scope="module")
def llama() -> nn.Module:
    return made_model("llama")


@pytest.fixture(scope="module")
def naive_llama() -> nn.Module:
    return made_model("llama", attention="eager")


def every_logp(logps: Any) -> Tensor:
    return torch.cat([torch.cat([pair.chosen, pair.rejected]) for pair in logps])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_tokens", [None, 3])
def test_log_probs_and_gradients_of_packed_pairs_equal_a_naive_implementation(
    kind: str, chunk_tokens: int | None
) -> None:
    policy = made_model(kind)
    naive = made_model(kind, attention="eager")
    logps = every_logp(group_logps(policy, pairs=PAIRS, chunk_tokens=chunk_tokens))
    wanted = torch.cat(
        [
            naive_logps(naive, prompt=pair.prompt, completion=completion)
            for pair in PAIRS
            for completion in (pair.chosen, pair.rejected)
        ]
    )
    assert logps.dtype == torch.float32
    assert torch.allclose(logps, wanted, atol=1e-4)
    slopes = torch.linspace(-1, 1, len(logps))
    ours, theirs = naive_gradient(policy, loss=logps @ slopes), naive_gradient(naive, loss=wanted @ slopes)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-4


@pytest.mark.parametrize(
    "function", [plain_pair_logps, lambda policy, pair: group_logps(policy, pairs=[pair])[0]]
)
@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_alone_equals_a_naive_implementation(
    llama: nn.Module, naive_llama: nn.Module, pair: EncodedPair, function: Any
) -> None:
    with torch.no_grad():
        logps = function(llama, pair)
        chosen = naive_logps(naive_llama, prompt=pair.prompt, completion=pair.chosen)
        rejected = naive_logps(naive_llama, prompt=pair.prompt, completion=pair.rejected)
    assert torch.allclose(logps.chosen, chosen, atol=1e-4)
    assert torch.allclose(logps.rejected, rejected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(
        st.tuples(st.integers(1, 150), st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=3
    ),
    seed=st.integers(0, 99),
)
def test_packed_pairs_of_any_lengths_give_what_each_completion_gives_alone(
    llama: nn.Module, lengths: list[tuple[int, int, int]], seed: int
) -> None:
    pairs = [
        random_pair(prompt=prompt, chosen=chosen, rejected=rejected, seed=seed + place)
        for place, (prompt, chosen, rejected) in enumerate(lengths)
    ]
    with torch.no_grad():
        packed = group_logps(llama, pairs=pairs)
        for logps, pair in zip(packed, pairs, strict=True):
            alone = plain_pair_logps(llama, pair)
            assert torch.allclose(logps.chosen, alone.chosen, atol=1e-4)
            assert torch.allclose(logps.rejected, alone.rejected, atol=1e-4)


def test_packed_completions_give_what_each_gives_alone(llama: nn.Module) -> None:
    completions = [(pair.prompt, pair.rejected) for pair in PAIRS]
    with torch.no_grad():
        packed = completions_token_logps(llama, completions=completions)
        for logps, (prompt, completion) in zip(packed, completions, strict=True):
            alone = completion_token_logps(llama, prompt=prompt, completion=completion)
            assert torch.allclose(logps, alone, atol=1e-4)


def test_no_gradient_reaches_the_logits_of_the_prompt(llama: nn.Module) -> None:
    seen: list[int] = []
    backbone: Any = llama.base_model
    hook = backbone.norm.register_full_backward_hook(
        lambda _module, _inputs, outputs: seen.append(int((outputs[0][0].abs().sum(-1) > 0).sum()))
    )
    pair = random_pair(prompt=30, chosen=4, rejected=6)
    torch.autograd.backward(every_logp(group_logps(llama, pairs=[pair])).sum())
    hook.remove()
    # The prompt's last position predicts both first tokens; each completion's last one predicts nothing.
    assert seen == [1 + 3 + 5]


@pytest.mark.parametrize("kind", SHARING)
def test_models_with_standard_attention_share_the_prompt(kind: str) -> None:
    assert logps_path(made_model(kind)).shares_prompt


@pytest.mark.parametrize(("kind", "reason"), LEFT_TO_THEMSELVES.items())
def test_other_models_compute_the_prompt_twice_and_say_why(kind: str, reason: str) -> None:
    policy = made_model(kind)
    assert not logps_path(policy).shares_prompt
    assert reason in logps_path(policy).reason


def test_bfloat16_logits_are_summed_up_in_float32() -> None:
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    targets = torch.tensor([0, 1, 2, 999])
    exact = logits.double().log_softmax(-1)[torch.arange(4), targets]
    assert torch.allclose(token_logps(logits, targets=targets).double(), exact, atol=1e-5)


def test_a_pass_takes_as_many_pairs_as_asked_for_or_as_fit() -> None:
    tokens = [900, 900, 900, 5000, 10]
    assert [slice_of(part) for part in passes(tokens, pairs_per_pass=2)] == [(0, 2), (2, 4), (4, 5)]
    assert [slice_of(part) for part in passes(tokens, pairs_per_pass=None)] == [
        (0, 2),
        (2, 3),
        (3, 4),
        (4, 5),
    ]
    assert passes([], pairs_per_pass=None) == []


def slice_of(part: slice) -> tuple[int, int]:
    return part.start, part.stop
