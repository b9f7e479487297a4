"""Rotary positions whose frequencies follow the length of a row: the kinds dynamic and longrope.

transformers keeps the frequencies of the latest long row in the module, where the next row and other threads
find them. Here they are every forward pass's own, so that a row gives what it gives alone.
"""

from collections.abc import Iterator
from copy import copy
from functools import partial
from typing import Any

from torch import nn


def make_rotary_stateless(model: nn.Module) -> None:
    """Exchange the forward passes of rotary positions that would keep something of a row, in place."""
    for module in _following_length(model):
        module.forward = partial(_forward_of_copy, module)


def longest_shared(model: nn.Module) -> int | None:
    """Up to how many tokens of a sequence the frequencies stay as they are; None where they always do."""
    return min((length for module in _following_length(model) for length in _lengths(module)), default=None)


def _following_length(model: nn.Module) -> Iterator[Any]:
    for module in model.modules():
        stated = getattr(module, "rope_type", None)
        kinds = stated.values() if isinstance(stated, dict) else [stated]
        if any(isinstance(kind, str) and ("dynamic" in kind or kind == "longrope") for kind in kinds):
            yield module


def _lengths(module: Any) -> Iterator[int]:
    """The length that the model was first trained for, as the module and its settings (of each kind of layer)
    state it.
    """
    parameters = module.config.rope_parameters
    yield module.original_max_seq_len
    for settings in (parameters, *parameters.values()):
        if isinstance(settings, dict) and settings.get("original_max_position_embeddings"):
            yield settings["original_max_position_embeddings"]


def _forward_of_copy(module: Any, *arguments: Any, **named: Any) -> Any:
    own = copy(module)
    # A copy shares the dictionary of buffers, where the new frequencies go.
    own._buffers = dict(module._buffers)
    return type(module).forward(own, *arguments, **named)
