"""What the optimiser changes: float32 weights, whatever the dtype in which the model computes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from training.core.errors import TrainingError
from training.core.model.loading import load_policy, trainable_parameters
from training.core.run.config import RunConfig


@dataclass(frozen=True)
class TrainedWeights:
    """The model's trainable weights and their float32 masters, by name; one and the same if float32.

    In bfloat16 a step of 1e-6 would round away, so the masters take the steps and the model gets their
    rounded values; gradients of several passes are summed in float32 as well.
    """

    model: Mapping[str, nn.Parameter]
    masters: Mapping[str, nn.Parameter]

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The float32 weights, in the model's order."""
        return list(self.masters.values())

    def add(self, gradients: "Gradients") -> None:
        """Add gradients to those of the masters, which may keep the tensors."""
        for name, gradient in gradients.sums.items():
            master = self.masters[name]
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)

    def publish(self) -> None:
        """Give the model the masters' values, after a step or a restored checkpoint."""
        with torch.no_grad():
            for weight, master in self._rounded():
                weight.copy_(master)

    def forget_gradients(self) -> None:
        """Drop every gradient."""
        for weight in (*self.model.values(), *self.masters.values()):
            weight.grad = None

    def restore(self, stored: Mapping[str, Tensor]) -> None:
        """Take over stored float32 values, by name."""
        with torch.no_grad():
            for name, master in self.masters.items():
                master.copy_(stored[name])
        self.publish()

    def _rounded(self) -> Iterator[tuple[nn.Parameter, nn.Parameter]]:
        """The weights that are not their own masters."""
        for name, weight in self.model.items():
            if weight is not self.masters[name]:
                yield weight, self.masters[name]


class Gradients:
    """Float32 gradients of the trained weights, by name: a sum over passes that one thread makes.

    Threads that leave theirs on the weights would add them up in any order; sums of their own are added in
    one (`TrainedWeights.add`).
    """

    def __init__(self, weights: TrainedWeights) -> None:
        self._weights = weights.model
        self.sums: dict[str, Tensor] = {}

    def add_of(self, loss: Tensor) -> None:
        """Add the gradient of a loss; weights that it does not depend on have none."""
        found = torch.autograd.grad(loss, list(self._weights.values()), allow_unused=True)
        for name, gradient in zip(self._weights, found, strict=True):
            if gradient is not None:
                known = self.sums.get(name)
                self.sums[name] = gradient.float() if known is None else known.add_(gradient)


def trained_weights(policy: nn.Module) -> TrainedWeights:
    """The trainable weights of a policy with their masters. Raises TrainingError when nothing is
    trainable.
    """
    model = trainable_parameters(policy)
    if not model:
        raise TrainingError("the model has no trainable weights; check lora.target_modules")
    masters = {name: _master(weight) for name, weight in model.items()}
    return TrainedWeights(model=model, masters=masters)


def trainable_policy(config: RunConfig, *, model: nn.Module) -> nn.Module:
    """The base model with what is trained of it marked: an adapter, or every weight."""
    if config.trainable == "full":
        policy = model.requires_grad_(True)
    else:
        policy = load_policy(config, model=model, trainable=True)
    if config.gradient_checkpointing:
        recompute_activations(policy)
    return policy


def _master(weight: nn.Parameter) -> nn.Parameter:
    if weight.dtype == torch.float32:
        return weight
    return nn.Parameter(weight.detach().float().clone())


def recompute_activations(policy: nn.Module) -> None:
    """Gradient checkpointing: keep each layer's input alone and compute the rest again in the backward pass.

    transformers does so only for layers in training mode, where some (OPT, Falcon) draw dropout of their own:
    the layers' forward passes are exchanged instead. Nothing is drawn then, and the state of the random
    numbers, which threads share, needs no keeping.
    """
    from transformers.modeling_layers import GradientCheckpointingLayer

    layers = [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise TrainingError(
            f"{type(policy).__name__} has no layers that can be recomputed; set gradient_checkpointing to "
            "false"
        )
    for layer in layers:
        layer.forward = partial(_recomputed, layer.forward)


def _recomputed(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, preserve_rng_state=False, **named)
