"""Log-probs from hidden states, a chunk of tokens at a time, forward and backward."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from training.core.model.steady import steady_product

# Logits held at once: 128 tokens of a vocabulary of 49,152, 25 MB in float32.
CHUNK_NUMBERS = 128 * 49_152
# Rows of every product with the head, so that a token's logits do not depend on its chunk; a large vocabulary
# has fewer.
TILE = 128


@dataclass(frozen=True)
class Head:
    """A linear LM head: logits = cap·tanh((hidden·weightᵀ + bias)/cap), without a cap where that is None."""

    weight: Tensor
    bias: Tensor | None = None
    cap: float | None = None


def chunked_token_logps(
    hidden: Tensor,
    *,
    head: Head,
    targets: Tensor,
    chunk_tokens: int | None = None,
    hits: Tensor | None = None,
) -> Tensor:
    """log softmax(logits)[target] in float32, shape (n,); hidden (n, d), targets (n,).

    No logits outlive their chunk. The gradient is taken chunk by chunk too; a frozen head gets none, and the
    one with respect to hidden is left behind by the forward pass where it will be asked for. `hits`, bool,
    (n,), is filled with whether each target was the likeliest token.
    """
    chunk = chunk_tokens or _default_chunk(head.weight)
    logps: Tensor = _ChunkedLogps.apply(hidden, head.weight, head.bias, targets, head.cap, chunk, hits)  # type: ignore[no-untyped-call]
    return logps


class _ChunkedLogps(torch.autograd.Function):
    """The slope of log softmax(z)[t] in z is onehot(t) − softmax(z), times 1 − (z/cap)² under a cap."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        cap: float | None,
        chunk: int,
        hits: Tensor | None,
    ) -> Tensor:
        ctx.head, ctx.chunk = Head(weight=weight, bias=bias, cap=cap), chunk
        logps = torch.empty(len(hidden), dtype=torch.float32, device=hidden.device)
        slopes = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            logits = _logits(hidden[rows], head=ctx.head)
            every = torch.log_softmax(logits, dim=1, dtype=torch.float32)
            logps[rows] = every.gather(1, targets[rows, None])[:, 0]
            if hits is not None:
                hits[rows] = every.argmax(1) == targets[rows]
            if slopes is not None:
                slope = _slope(every, logits=logits, targets=targets[rows], cap=cap)
                torch.mm(slope.to(weight.dtype), weight, out=slopes[rows])
        ctx.save_for_backward(hidden, targets)
        ctx.slopes = slopes
        return logps

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        hidden, targets = ctx.saved_tensors
        hidden_gradient = None if ctx.slopes is None else ctx.slopes * gradient[:, None].to(ctx.slopes.dtype)
        head_gradients: tuple[Tensor | None, Tensor | None] = (None, None)
        if ctx.needs_input_grad[1] or ctx.needs_input_grad[2]:
            head_gradients = _head_gradients(hidden, gradient=gradient, targets=targets, ctx=ctx)
        return hidden_gradient, *head_gradients, None, None, None, None


def _head_gradients(
    hidden: Tensor, *, gradient: Tensor, targets: Tensor, ctx: Any
) -> tuple[Tensor, Tensor | None]:
    """The gradients of a trained head, in float32 over the chunks, whose logits are made anew."""
    head: Head = ctx.head
    weight_gradient = torch.zeros_like(head.weight, dtype=torch.float32)
    bias_gradient = None if head.bias is None else torch.zeros_like(head.bias, dtype=torch.float32)
    for start in range(0, len(hidden), ctx.chunk):
        rows = slice(start, start + ctx.chunk)
        logits = _logits(hidden[rows], head=head)
        every = torch.log_softmax(logits, dim=1, dtype=torch.float32)
        slope = _slope(every, logits=logits, targets=targets[rows], cap=head.cap).mul_(gradient[rows, None])
        if bias_gradient is not None:
            bias_gradient += slope.sum(0)
        weight_gradient += slope.to(hidden.dtype).T @ hidden[rows]
    bias_result = None if bias_gradient is None else bias_gradient.to(head.weight.dtype)
    return weight_gradient.to(head.weight.dtype), bias_result


def _logits(hidden: Tensor, *, head: Head) -> Tensor:
    tile = min(TILE, _default_chunk(head.weight))
    logits = steady_product(hidden, weight=head.weight, bias=head.bias, tile=tile)
    return logits if head.cap is None else torch.tanh(logits / head.cap) * head.cap


def _default_chunk(weight: Tensor) -> int:
    return max(1, CHUNK_NUMBERS // len(weight))


def _slope(every: Tensor, *, logits: Tensor, targets: Tensor, cap: float | None) -> Tensor:
    """d log softmax[target] / d logits before the cap, float32, in the memory of `every`, the log-softmax."""
    slope = every.exp_().neg_()
    slope[torch.arange(len(targets), device=targets.device), targets] += 1
    return slope if cap is None else slope.mul_(1 - (logits.float() / cap) ** 2)
