"""Per-token log-probs of completions: a row per pair, the prompt once, the head only where needed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training.core.model.loading import causal_model
from training.core.run.directory import TokenIds


@dataclass(frozen=True)
class PairTokenLogps:
    """Log-probs in nats of each completion token, float32, shapes (n_w,) and (n_l,)."""

    chosen: Tensor
    rejected: Tensor


def completion_token_logps(policy: nn.Module, *, prompt: TokenIds, completion: TokenIds) -> Tensor:
    """log π(y_t | x, y_<t) for each token of one completion, float32, shape (n,).

    The hidden states are selected at the positions that predict the completion before the LM head, so prompt
    positions have neither logits nor a gradient; the softmax is in float32.
    """
    ids = torch.tensor([prompt + completion])
    kept = torch.arange(len(prompt) - 1, len(prompt) + len(completion) - 1)
    return _row_logps(policy, ids=ids, kept=kept, targets=torch.tensor(completion))


def plain_pair_logps(
    policy: nn.Module, *, prompt: TokenIds, chosen: TokenIds, rejected: TokenIds
) -> PairTokenLogps:
    """Both completions of a pair, a row each, without padding: right for every causal model."""
    return PairTokenLogps(
        chosen=completion_token_logps(policy, prompt=prompt, completion=chosen),
        rejected=completion_token_logps(policy, prompt=prompt, completion=rejected),
    )


def shared_pair_logps(
    policy: nn.Module, *, prompt: TokenIds, chosen: TokenIds, rejected: TokenIds
) -> PairTokenLogps:
    """Both completions in one row, prompt | chosen | rejected, so that the prompt is computed once.

    Position ids of the rejected part restart where the chosen part's began, and its queries do not see the
    chosen keys. The prompt's last hidden state predicts the first token of both completions.
    """
    start, middle = len(prompt), len(prompt) + len(chosen)
    end = middle + len(rejected)
    positions = torch.cat([torch.arange(middle), torch.arange(start, start + len(rejected))])
    kept = torch.cat(
        [torch.arange(start - 1, middle - 1), torch.tensor([start - 1]), torch.arange(middle, end - 1)]
    )
    logps = _row_logps(
        policy,
        ids=torch.tensor([prompt + chosen + rejected]),
        kept=kept,
        targets=torch.tensor(chosen + rejected),
        position_ids=positions[None],
        attention_mask=shared_attention_mask(prompt=start, chosen=len(chosen), rejected=len(rejected)),
    )
    return PairTokenLogps(chosen=logps[: len(chosen)], rejected=logps[len(chosen) :])


def shared_attention_mask(*, prompt: int, chosen: int, rejected: int) -> Tensor:
    """The keys that each query of a shared row sees, bool, (1, 1, T, T): causal, rejected blind to chosen."""
    length = prompt + chosen + rejected
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    seen[prompt + chosen :, prompt : prompt + chosen] = False
    return seen[None, None]


PairLogpsFunction = Callable[..., PairTokenLogps]


def pair_logps_function(policy: nn.Module) -> PairLogpsFunction:
    """`shared_pair_logps` where the model's attention can be shared, `plain_pair_logps` elsewhere."""
    return shared_pair_logps if shares_prefix(policy) else plain_pair_logps


def shares_prefix(policy: nn.Module) -> bool:
    """Whether every layer is full attention with rotary positions, so that mask and position ids suffice."""
    settings: Any = causal_model(policy).config.get_text_config()  # type: ignore[operator,union-attr]
    layers = getattr(settings, "layer_types", None) or ["full_attention"]
    return (
        all(layer == "full_attention" for layer in layers)
        and not getattr(settings, "sliding_window", None)
        and not getattr(settings, "alibi", False)
        and getattr(settings, "rope_parameters", None) is not None
        and settings._attn_implementation == "sdpa"
    )


def _row_logps(policy: nn.Module, *, ids: Tensor, kept: Tensor, targets: Tensor, **inputs: Tensor) -> Tensor:
    model = causal_model(policy)
    device = next(model.parameters()).device
    placed = {name: value.to(device) for name, value in inputs.items()}
    output = model(input_ids=ids.to(device), logits_to_keep=kept.to(device), use_cache=False, **placed)
    return token_logps(output.logits[0], targets=targets.to(device))


def token_logps(logits: Tensor, *, targets: Tensor) -> Tensor:
    """log softmax(logits)[target] in float32, shape (n,); logits (n, vocabulary), targets (n,)."""
    logits = logits.float()
    chosen_logits: Tensor = logits.gather(1, targets[:, None])[:, 0]
    return chosen_logits - logits.logsumexp(dim=1)
