"""Attention over rows of segments, registered with transformers as SEGMENTS: no mask, no padding.

A segment's queries see its context (the prompt) and what precedes them in the segment. Queries go in blocks,
so that no (tokens × tokens) matrix exists; the backward pass computes a block's weights again where they are
too many to keep. The query heads that share a key head are folded into one matrix product.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SEGMENTS = "dpo_segments"
# Queries at once: few enough for a block's weights to stay in the cache of a core.
BLOCK = 128
# Weights kept for the backward pass, of all heads, per token of the row: more would take more memory than a
# third of what the layer keeps besides.
KEPT_PER_TOKEN = 4096
_maskless: ContextVar[bool] = ContextVar("maskless", default=False)
_calls = 0


@dataclass(frozen=True)
class Segment:
    """Tokens [start, end) of a row: each sees [context_start, context_end) and what precedes it in here."""

    context_start: int
    context_end: int
    start: int
    end: int

    @property
    def context(self) -> int:
        """How many tokens the context has."""
        return self.context_end - self.context_start


@contextmanager
def without_masks() -> Iterator[None]:
    """Inside, transformers makes no attention mask: the segments say who sees whom."""
    token = _maskless.set(True)
    try:
        yield
    finally:
        _maskless.reset(token)


def segments_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    segments: tuple[Segment, ...] | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """softmax(scaling · q·kᵀ)·v of one row; query (1, H, t, D), key and value (1, K, t, D) → (1, t, H, D).

    A call without segments is an ordinary one and goes to PyTorch's own attention; that has no cap, so a
    capped row is one segment here. Raises ValueError for what only other kernels have.
    """
    if segments is None and softcap is None:
        others.update(scaling=scaling, sliding_window=sliding_window)
        return sdpa_attention_forward(module, query, key, value, attention_mask, **others)  # type: ignore[no-any-return]
    global _calls
    _calls += 1
    rules = _Rules(
        segments=_known_segments(segments, query=query, key=key, others=others),
        scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
        window=sliding_window,
        cap=softcap,
    )
    output: Tensor = _SegmentsAttention.apply(query[0], key[0], value[0], rules)  # type: ignore[no-untyped-call]
    return output[None], None


def _known_segments(
    segments: tuple[Segment, ...] | None, *, query: Tensor, key: Tensor, others: dict[str, Any]
) -> tuple[Segment, ...]:
    """The segments of a call, one over a capped row without any; raises ValueError for what is not known."""
    unknown = [name for name in ("s_aux", "position_bias", "cache") if others.get(name) is not None]
    if segments is None and len(query) > 1:
        unknown.append("batch of capped rows")
    if key.shape[2] != query.shape[2]:
        unknown.append("keys of earlier calls")
    if unknown:
        raise ValueError(f"attention over segments knows no {', '.join(unknown)}")
    return segments or (Segment(0, 0, 0, key.shape[2]),)


def segments_calls() -> int:
    """How often attention over segments was computed in this process: did a model pass the segments on?"""
    return _calls


def segments_mask(*arguments: Any, **named: Any) -> Tensor | None:
    """No mask for rows of segments; PyTorch's for every other call."""
    return None if _maskless.get() else sdpa_mask(*arguments, **named)


@dataclass(frozen=True)
class _Rules:
    """Who sees whom, and how scores come about: scaled, cap·tanh(score/cap), a window of keys."""

    segments: tuple[Segment, ...]
    scaling: float
    window: int | None
    cap: float | None


class _SegmentsAttention(torch.autograd.Function):
    """query (H, t, D), key and value (K, t, D) → (t, H, D)."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rules: _Rules) -> Tensor:
        heads, tokens, _ = query.shape
        output = query.new_empty(tokens, heads, value.shape[2])
        kept: list[Tensor] = []
        keep = any(ctx.needs_input_grad) and rules.cap is None and _are_few(rules.segments, heads=heads)
        for segment in rules.segments:
            keys, values = _seen(key, segment=segment), _seen(value, segment=segment)
            for block in _blocks(segment):
                queries = _folded(query[:, block.rows], heads=len(key)).mul_(rules.scaling)
                weights, _ = _weights(queries, keys=keys, block=block, rules=rules)
                result = torch.bmm(weights, values[:, : block.seen])
                output[block.rows].transpose(0, 1).copy_(result.view(heads, block.count, -1))
                if keep:
                    kept.append(weights)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.rules = rules
        return output

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, *weights = ctx.saved_tensors
        kept = iter(weights)
        query_gradient = torch.empty_like(query)
        key_gradient = torch.zeros_like(key, dtype=torch.float32, memory_format=torch.contiguous_format)
        value_gradient = torch.zeros_like(value, dtype=torch.float32, memory_format=torch.contiguous_format)
        for segment in ctx.rules.segments:
            _segment_backward(
                segment,
                rules=ctx.rules,
                tensors=(query, key, value),
                kept=kept,
                incoming=gradient.transpose(0, 1),
                gradients=(query_gradient, key_gradient, value_gradient),
            )
        return query_gradient, key_gradient.to(key.dtype), value_gradient.to(value.dtype), None


def _segment_backward(
    segment: Segment,
    *,
    rules: _Rules,
    tensors: tuple[Tensor, Tensor, Tensor],
    kept: Iterator[Tensor],
    incoming: Tensor,
    gradients: tuple[Tensor, Tensor, Tensor],
) -> None:
    """Write the segment's share of the gradients; `incoming` is the output's gradient, (H, t, D).

    `kept` gives the blocks' weights in order, nothing where they are to be computed again.
    With weights P = softmax(S): dV = Pᵀ·dO, dS = P ∘ (dO·Vᵀ − rowsum(P ∘ dO·Vᵀ)), dQ = dS·K, dK = dSᵀ·Q.
    """
    query, key, value = tensors
    keys, values = _seen(key, segment=segment), _seen(value, segment=segment)
    key_part = torch.zeros_like(keys, dtype=torch.float32)
    value_part = torch.zeros_like(values, dtype=torch.float32)
    for block in _blocks(segment):
        queries = _folded(query[:, block.rows], heads=len(key)).mul_(rules.scaling)
        weights, damping = next(kept, None), None
        if weights is None:
            weights, damping = _weights(queries, keys=keys, block=block, rules=rules)
        outgoing = _folded(incoming[:, block.rows], heads=len(key))
        value_part[:, : block.seen] += torch.bmm(weights.transpose(1, 2), outgoing)
        slopes = torch.bmm(outgoing, values[:, : block.seen].transpose(1, 2))
        slopes = torch._softmax_backward_data(slopes, weights, -1, weights.dtype)
        slopes = slopes if damping is None else slopes.mul_(damping)
        key_part[:, : block.seen] += torch.bmm(slopes.transpose(1, 2), queries)
        result = torch.bmm(slopes, keys[:, : block.seen]).mul_(rules.scaling)
        gradients[0][:, block.rows].copy_(result.view(len(query), block.count, -1))
    for total, part in zip(gradients[1:], (key_part, value_part), strict=True):
        total[:, segment.context_start : segment.context_end] += part[:, : segment.context]
        total[:, segment.start : segment.end] += part[:, segment.context :]


@dataclass(frozen=True)
class _Block:
    """Some of a segment's queries: their rows, their count, the keys the last one sees."""

    rows: slice
    count: int
    seen: int


def _blocks(segment: Segment) -> Iterator[_Block]:
    """The segment's queries in blocks."""
    for start in range(segment.start, segment.end, BLOCK):
        end = min(start + BLOCK, segment.end)
        seen = segment.context + end - segment.start
        yield _Block(rows=slice(start, end), count=end - start, seen=seen)


def _are_few(segments: tuple[Segment, ...], *, heads: int) -> bool:
    """Whether the weights of a row's segments are few enough to be kept."""
    tokens = sum(segment.end - segment.start for segment in segments)
    weights = sum(block.count * block.seen for segment in segments for block in _blocks(segment))
    return heads * weights <= KEPT_PER_TOKEN * tokens


def _seen(tensor: Tensor, *, segment: Segment) -> Tensor:
    """The context's and the segment's own entries of (K, t, D), contiguous."""
    own = tensor[:, segment.start : segment.end]
    if not segment.context:
        return own.contiguous()
    return torch.cat([tensor[:, segment.context_start : segment.context_end], own], dim=1)


def _folded(tensor: Tensor, *, heads: int) -> Tensor:
    """(H, n, D) → (K, H/K·n, D), a copy: the query heads of one key head below each other."""
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device).copy_(tensor)
    return copy.view(heads, -1, tensor.shape[2])


def _weights(queries: Tensor, *, keys: Tensor, block: _Block, rules: _Rules) -> tuple[Tensor, Tensor | None]:
    """softmax over the keys seen, (K, H/K·n, seen), and the cap's slope where there is one.

    The last `count` keys are the queries' own, so causality hides a triangle of them alone.
    """
    scores = torch.bmm(queries, keys[:, : block.seen].transpose(1, 2))
    damping = None
    if rules.cap is not None:
        scores = torch.tanh(scores / rules.cap)
        damping = 1 - scores**2
        scores = scores * rules.cap
    rows = scores.view(len(queries), -1, block.count, block.seen)
    rows[..., -block.count :].add_(_future(block.count, scores.dtype, scores.device))
    if rules.window is not None and block.seen > rules.window:
        places = torch.arange(block.seen, device=scores.device)
        rows.masked_fill_(places <= places[-block.count :, None] - rules.window, float("-inf"))
    return torch.softmax(scores, dim=-1), damping


@lru_cache(maxsize=2 * BLOCK)
def _future(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """−∞ above the diagonal, 0 elsewhere, (count, count)."""
    return torch.full((count, count), float("-inf"), dtype=dtype, device=device).triu(1)


AttentionInterface.register(SEGMENTS, segments_attention)
AttentionMaskInterface.register(SEGMENTS, segments_mask)
