"""Log-probs and their gradients against a naive float32 implementation, for several kinds of models."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from tests.core.support import random_pair
from training.core.data.encode import EncodedPair
from training.core.logprobs.pairs import (
    completion_token_logps,
    pair_logps_function,
    plain_pair_logps,
    shared_attention_mask,
    shared_pair_logps,
    token_logps,
)

SIZES: dict[str, Any] = {
    "vocab_size": 258,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
}
SHARING = {"llama": LlamaConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config, "gemma": GemmaConfig}


def model(configuration: Any) -> nn.Module:
    torch.manual_seed(3)
    made: nn.Module = AutoModelForCausalLM.from_config(configuration, attn_implementation="sdpa")
    return made.float().eval()


def naive_logps(policy: nn.Module, *, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Tensor:
    """A full float32 forward pass over one sequence, log-softmax of all logits, the completion's tokens."""
    logits = policy(input_ids=torch.tensor([prompt + completion])).logits[0].float()
    every = logits.log_softmax(-1)
    return torch.stack([every[len(prompt) + place - 1, token] for place, token in enumerate(completion)])


@pytest.fixture(scope="module", params=SHARING)
def sharing_model(request: pytest.FixtureRequest) -> nn.Module:
    return model(SHARING[request.param](**SIZES))


PAIRS = [
    random_pair(prompt=7, chosen=5, rejected=9),
    random_pair(prompt=1, chosen=1, rejected=1, seed=1),
    random_pair(prompt=20, chosen=1, rejected=12, seed=2),
    random_pair(prompt=2, chosen=30, rejected=3, seed=3),
]


@pytest.mark.parametrize("pair", PAIRS)
def test_log_probs_equal_a_naive_implementation(sharing_model: nn.Module, pair: EncodedPair) -> None:
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    with torch.no_grad():
        chosen = naive_logps(sharing_model, prompt=pair.prompt, completion=pair.chosen)
        rejected = naive_logps(sharing_model, prompt=pair.prompt, completion=pair.rejected)
        for function in (plain_pair_logps, shared_pair_logps):
            logps = function(sharing_model, **parts)
            assert logps.chosen.dtype == torch.float32
            assert torch.allclose(logps.chosen, chosen, atol=1e-4)
            assert torch.allclose(logps.rejected, rejected, atol=1e-4)


@pytest.mark.parametrize("function", [plain_pair_logps, shared_pair_logps])
def test_gradients_equal_a_naive_implementation(sharing_model: nn.Module, function: Any) -> None:
    pair = PAIRS[0]

    def gradient(loss: Tensor) -> Tensor:
        sharing_model.zero_grad()
        torch.autograd.backward(loss)
        return torch.cat(
            [weight.grad.flatten() for weight in sharing_model.parameters() if weight.grad is not None]
        )

    logps = function(sharing_model, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    ours = gradient(logps.chosen.sum() - 0.5 * logps.rejected.sum())
    naive = gradient(
        naive_logps(sharing_model, prompt=pair.prompt, completion=pair.chosen).sum()
        - 0.5 * naive_logps(sharing_model, prompt=pair.prompt, completion=pair.rejected).sum()
    )
    assert float((ours - naive).norm() / naive.norm()) < 1e-4


@settings(max_examples=30, deadline=None)
@given(
    prompt=st.integers(1, 40), chosen=st.integers(1, 40), rejected=st.integers(1, 40), seed=st.integers(0, 99)
)
def test_a_shared_prompt_gives_what_two_rows_give(
    shared_llama: nn.Module, prompt: int, chosen: int, rejected: int, seed: int
) -> None:
    pair = random_pair(prompt=prompt, chosen=chosen, rejected=rejected, seed=seed)
    parts = {"prompt": pair.prompt, "chosen": pair.chosen, "rejected": pair.rejected}
    with torch.no_grad():
        shared, plain = shared_pair_logps(shared_llama, **parts), plain_pair_logps(shared_llama, **parts)
    assert torch.allclose(shared.chosen, plain.chosen, atol=1e-4)
    assert torch.allclose(shared.rejected, plain.rejected, atol=1e-4)


@pytest.fixture(scope="module")
def shared_llama() -> nn.Module:
    return model(LlamaConfig(**SIZES))


def test_the_head_sees_completion_positions_alone(shared_llama: nn.Module) -> None:
    seen: list[int] = []
    head: Any = shared_llama.lm_head
    hook = head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[1]))
    pair = random_pair(prompt=30, chosen=4, rejected=6)
    shared_pair_logps(shared_llama, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    hook.remove()
    assert seen == [10]


def test_a_rejected_query_sees_prompt_and_itself() -> None:
    seen = shared_attention_mask(prompt=2, chosen=2, rejected=2)[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1, 1],
    ]


def test_models_with_full_rotary_attention_share_the_prompt(sharing_model: nn.Module) -> None:
    assert pair_logps_function(sharing_model) is shared_pair_logps


@pytest.mark.parametrize(
    "configuration",
    [
        MistralConfig(**SIZES, sliding_window=8),
        Gemma2Config(**SIZES, sliding_window=8),
        GPT2Config(vocab_size=258, n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
    ],
    ids=["mistral with a window", "gemma2", "gpt2"],
)
def test_other_models_compute_the_prompt_twice_and_rightly(configuration: Any) -> None:
    policy = model(configuration)
    pair = random_pair(prompt=20, chosen=12, rejected=5)
    function = pair_logps_function(policy)
    assert function is plain_pair_logps
    with torch.no_grad():
        logps = function(policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
        naive = naive_logps(policy, prompt=pair.prompt, completion=pair.chosen)
    assert torch.allclose(logps.chosen, naive, atol=1e-4)


def test_bfloat16_logits_are_summed_up_in_float32() -> None:
    logits = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    targets = torch.tensor([0, 1, 2, 999])
    exact = logits.double().log_softmax(-1)[torch.arange(4), targets]
    assert torch.allclose(token_logps(logits, targets=targets).double(), exact, atol=1e-5)


def test_a_completion_alone_equals_its_half_of_a_pair(shared_llama: nn.Module) -> None:
    pair = PAIRS[0]
    with torch.no_grad():
        alone = completion_token_logps(shared_llama, prompt=pair.prompt, completion=pair.rejected)
        both = plain_pair_logps(shared_llama, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
    assert torch.equal(alone, both.rejected)
