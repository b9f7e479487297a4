"""Tiny random models of many kinds, and what a naive implementation makes of them."""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from training.core.model.steady import make_steady

VOCABULARY = 258
_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
_GROUPED: dict[str, Any] = {**_COMMON, "num_key_value_heads": 2, "head_dim": 8}
_WINDOW: dict[str, Any] = {**_GROUPED, "sliding_window": 8}
SHARING: dict[str, Any] = {
    "llama": LlamaConfig(**_GROUPED),
    "qwen2": Qwen2Config(**_GROUPED),
    "qwen3": Qwen3Config(**_GROUPED),
    "gemma": GemmaConfig(**_GROUPED),
    "gemma2": Gemma2Config(**_WINDOW, query_pre_attn_scalar=8, attn_logit_softcapping=2.0),
    "gemma3": Gemma3TextConfig(**_WINDOW, query_pre_attn_scalar=8),
    "mistral with a window": MistralConfig(**_WINDOW),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY, n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2
    ),
    "gpt-neox": GPTNeoXConfig(**_COMMON),
}
# The kinds whose prompts cannot be shared, with what is said of it.
LEFT_TO_THEMSELVES = {
    "mamba": "linear_attention",
    "bloom": "does not keep the completions of a row apart",
    "cohere": "more than a linear head",
}
_OTHERS: dict[str, Any] = {
    "mamba": MambaConfig(
        vocab_size=VOCABULARY, hidden_size=32, state_size=4, num_hidden_layers=2, initializer_range=0.2
    ),
    "bloom": BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.2),
    "cohere": CohereConfig(**_COMMON),
}
KINDS = (*SHARING, *_OTHERS)


def made_model(kind: str, *, attention: str | None = None) -> nn.Module:
    """A float32 model of that kind, in evaluation mode; the same weights in every call."""
    torch.manual_seed(3)
    # A copy: a model notes its attention in its configuration.
    configuration = deepcopy({**SHARING, **_OTHERS}[kind])
    if getattr(configuration, "attn_logit_softcapping", None):
        # PyTorch's own attention leaves the cap out; the trainer loads such models with this one, too.
        attention = "eager"
    wanted = {} if attention is None or kind == "mamba" else {"attn_implementation": attention}
    made: nn.Module = AutoModelForCausalLM.from_config(configuration, **wanted)
    return made.float().eval()


def made_steady_model() -> nn.Module:
    """A float32 Llama whose widths fill vector registers, its products made steady."""
    torch.manual_seed(3)
    widths = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "head_dim": 32}
    configuration = LlamaConfig(**{**_GROUPED, **widths, "num_key_value_heads": 1})
    made: nn.Module = AutoModelForCausalLM.from_config(configuration).float().eval()
    make_steady(made)
    return made


def naive_logps(policy: nn.Module, *, prompt: tuple[int, ...], completion: tuple[int, ...]) -> Tensor:
    """A full float32 forward pass over one sequence, log-softmax of all logits, the completion's tokens."""
    logits = policy(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0].float()
    every = logits.log_softmax(-1)
    return torch.stack([every[len(prompt) + place - 1, token] for place, token in enumerate(completion)])


def naive_gradient(policy: nn.Module, *, loss: Tensor) -> Tensor:
    """The gradient of a loss in all weights, one long vector."""
    policy.zero_grad()
    torch.autograd.backward(loss)
    return torch.cat(
        [
            torch.zeros_like(weight).flatten() if weight.grad is None else weight.grad.flatten()
            for weight in policy.parameters()
        ]
    )
