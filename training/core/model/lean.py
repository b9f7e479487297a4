"""Leaner forward and backward passes of a decoder's layers: less kept, less moved, the same numbers.

A layer is exchanged only where its exchange gives what it gives itself, tried on random input, and steps
aside wherever a case comes that it was not made for.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional

from training.core.model.steady import steady_product


def make_lean(policy: nn.Module) -> None:
    """Exchange the forward passes of LoRA layers, RMS norms and gated MLPs that are known, in place.

    Those that were exchanged before stay as they are.
    """
    for module in policy.modules():
        if hasattr(module, "plain_forward"):
            continue
        if isinstance(module, LoraLinear):
            _exchange(module, forward=_lora_forward)
        elif type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
            if _same(module, forward=_norm_forward, width=int(module.weight.shape[0])):  # type: ignore[index]
                _exchange(module, forward=_norm_forward)
        elif all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
            width = getattr(module.gate_proj, "in_features", None)
            if width is not None and _same(module, forward=_gated_forward, width=width):
                _exchange(module, forward=_gated_forward)


def _exchange(module: Any, *, forward: Callable[..., Tensor]) -> None:
    module.plain_forward = module.forward
    module.forward = MethodType(forward, module)


def _same(module: Any, *, forward: Callable[..., Tensor], width: int) -> bool:
    """Whether `forward` gives what the module gives, on two random tokens, to the rounding of its dtype."""
    weight = next(module.parameters())
    x = torch.linspace(-2, 2, 2 * width, device=weight.device, dtype=weight.dtype).view(1, 2, width)
    with torch.no_grad():
        module.plain_forward = module.forward
        try:
            wanted, found = module.plain_forward(x), forward(module, x)
        finally:
            del module.plain_forward
    tolerance = 1e-5 if weight.dtype == torch.float32 else 2e-2
    return bool((wanted - found).abs().max() <= tolerance * wanted.abs().max())


def _lora_forward(module: Any, x: Tensor, *arguments: Any, **named: Any) -> Tensor:
    """base(x) + scaling·B·A·x for one plain adapter; PEFT's own forward pass for everything else."""
    base = module.base_layer
    if module.disable_adapters and not module.merged:
        return base(x)  # type: ignore[no-any-return]
    name = module.active_adapters[0] if len(module.active_adapters) == 1 else ""
    if arguments or named or not _is_plain(module, name=name):
        return module.plain_forward(x, *arguments, **named)  # type: ignore[no-any-return]
    a, b = module.lora_A[name].weight, module.lora_B[name].weight
    result: Tensor = _LoraLinear.apply(x, base.weight, base.bias, a, b, module.scaling[name])  # type: ignore[no-untyped-call]
    return result


def _is_plain(module: Any, *, name: str) -> bool:
    """A frozen linear layer with one adapter that has no bias, no variant and no dropout at work."""
    if name not in module.lora_A:
        return False
    return (
        name not in module.lora_variant
        and type(module.base_layer) is nn.Linear
        and not module.base_layer.weight.requires_grad
        and not module.merged
        and module.lora_B[name].bias is None
        and (isinstance(module.lora_dropout[name], nn.Identity) or not module.training)
    )


class _LoraLinear(torch.autograd.Function):
    """y = x·Wᵀ + bias + scaling·(x·Aᵀ)·Bᵀ in the base's dtype; A and B and their gradients stay float32."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scaling: float
    ) -> Tensor:
        rows = x.reshape(-1, x.shape[-1])
        a_low, b_low = a.to(x.dtype), (b * scaling).to(x.dtype)
        inner = rows @ a_low.T
        y = steady_product(rows, weight=weight, bias=bias).addmm_(inner, b_low.T)
        ctx.save_for_backward(rows, inner, weight, a_low, b_low)
        ctx.scaling = scaling
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, inner, weight, a_low, b_low = ctx.saved_tensors
        outgoing = gradient.reshape(-1, gradient.shape[-1])
        inner_gradient = outgoing @ b_low
        a_gradient = (inner_gradient.T @ rows).float()
        b_gradient = (outgoing.T @ inner).float().mul_(ctx.scaling)
        x_gradient = None
        if ctx.needs_input_grad[0]:
            x_gradient = (outgoing @ weight).addmm_(inner_gradient, a_low)
            x_gradient = x_gradient.view(*gradient.shape[:-1], -1)
        return x_gradient, None, None, a_gradient, b_gradient, None


def _norm_forward(module: Any, x: Tensor) -> Tensor:
    if module.weight.requires_grad:
        return module.plain_forward(x)  # type: ignore[no-any-return]
    result: Tensor = _RmsNorm.apply(x, module.weight, module.variance_epsilon)  # type: ignore[no-untyped-call]
    return result


class _RmsNorm(torch.autograd.Function):
    """weight · x/√(mean(x²) + ε), the mean and the quotient in float32, for a frozen weight."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = length.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, inverse)
        return torch.mul(x, inverse).to(x.dtype).mul_(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        x, weight, inverse = ctx.saved_tensors
        outgoing = torch.mul(gradient, weight.float())
        normed = torch.mul(x, inverse)
        mean = (outgoing * normed).mean(-1, keepdim=True)
        return outgoing.sub_(normed.mul_(mean)).mul_(inverse).to(x.dtype), None, None


def _gated_forward(module: Any, x: Tensor) -> Tensor:
    gated: Tensor = _Swiglu.apply(module.gate_proj(x), module.up_proj(x))  # type: ignore[no-untyped-call]
    return module.down_proj(gated)  # type: ignore[no-any-return]


class _Swiglu(torch.autograd.Function):
    """silu(gate)·up; keeps its two inputs alone."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return functional.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        up_gradient = functional.silu(gate).mul_(gradient)
        return torch.ops.aten.silu_backward(gradient * up, gate), up_gradient
