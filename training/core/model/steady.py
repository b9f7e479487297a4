"""Linear layers that give a token the same result, bit for bit, whatever tokens stand beside it.

On a CPU a matrix product's order of summation depends on its shape: a row of one token more may round
otherwise, and layer upon layer in bfloat16 that comes to 0.05 nats a token. In products of one shape alone
the policy's row and the reference's give the same numbers, and an entry of the ledger depends on nothing but
its own tokens (docs/decisions/steady-products.md).
"""

from collections.abc import Iterator, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

# Rows of every product. Fewer cost speed, since a product arranges the weights anew; more are wasted on a
# short row, which is filled up to so many.
TILE = 256
# Numbers in the widest vector register, in bfloat16: where a token's numbers do not fill registers, those of
# the row's last tokens are computed by other instructions.
REGISTER = 32


def steady_product(x: Tensor, *, weight: Tensor, bias: Tensor | None, tile: int = TILE) -> Tensor:
    """x·Wᵀ + bias, (n, in) → (n, out), on a CPU in products of `tile` rows; the last one overlaps."""
    if x.device.type != "cpu":
        return functional.linear(x, weight, bias)
    count = len(x)
    if count <= tile:
        filled = x.new_zeros(tile, x.shape[1])
        filled[:count] = x
        return functional.linear(filled, weight, bias)[:count]
    result = x.new_empty(count, len(weight))
    for begin in range(0, count, tile):
        start = min(begin, count - tile)
        result[start : start + tile] = functional.linear(x[start : start + tile], weight, bias)
    return result


def make_steady(model: nn.Module) -> None:
    """Exchange the forward passes of all linear layers but the LM head, in place."""
    head = _head(model)
    for module in model.modules():
        if type(module) is nn.Linear and module is not head:
            module.forward = MethodType(_linear_forward, module)  # type: ignore[method-assign]


def is_steady(model: nn.Module) -> bool:
    """Whether everything in the model that multiplies tokens by a matrix is an exchanged layer, on a CPU.

    The LM head, whose logits are made chunk by chunk, and adapters do not count. Every width must fill vector
    registers, those of rotary positions too.
    """
    head = _head(model)
    matrices = [
        module
        for name, module in model.named_modules()
        if module is not head and "lora_" not in name and _has_matrix(module)
    ]
    rotations = [2 * len(buffer) for name, buffer in model.named_buffers() if name.endswith("inv_freq")]
    return all(isinstance(module, nn.Embedding) or _is_exchanged(module) for module in matrices) and all(
        width % REGISTER == 0 for width in (*rotations, *_widths(matrices))
    )


class _SteadyLinear(torch.autograd.Function):
    """y = x·Wᵀ + bias over rows (n, in); the backward pass is of one product each."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return steady_product(rows, weight=weight, bias=bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        return (
            gradient @ weight if wanted[0] else None,
            gradient.T @ rows if wanted[1] else None,
            gradient.sum(0) if wanted[2] else None,
        )


def _linear_forward(module: nn.Linear, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _SteadyLinear.apply(rows, module.weight, module.bias)  # type: ignore[no-untyped-call]
    return y.view(*x.shape[:-1], -1)


def _is_exchanged(module: nn.Module) -> bool:
    on_cpu = all(parameter.device.type == "cpu" for parameter in module.parameters(recurse=False))
    return on_cpu and getattr(module.forward, "__func__", None) is _linear_forward


def _widths(modules: Sequence[nn.Module]) -> Iterator[int]:
    for module in modules:
        for parameter in module.parameters(recurse=False):
            if not isinstance(module, nn.Embedding):
                yield from parameter.shape


def _has_matrix(module: nn.Module) -> bool:
    return any(parameter.dim() > 1 for parameter in module.parameters(recurse=False))


def _head(model: Any) -> nn.Module | None:
    head: nn.Module | None = model.get_output_embeddings()
    return head
