"""Token rows: several sequences end to end, without padding, and which part sees which."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from training.core.model.attention import Segment
from training.core.run.directory import TokenIds


@dataclass(frozen=True)
class Row:
    """One row of T tokens: ids and position ids, both (T,), and where its n completion tokens are read.

    Hidden state `kept[i]` predicts `targets[i]`; `lengths` divides these n into completions, in order.
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    kept: Tensor
    targets: Tensor
    lengths: tuple[int, ...]

    def to(self, device: torch.device) -> "Row":
        """The same row on another device."""
        names = ("ids", "positions", "kept", "targets")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


def shared_row(groups: Sequence[tuple[TokenIds, Sequence[TokenIds]]]) -> Row:
    """A row of groups, each prompt | completion | completion …, so that a prompt is computed once.

    The position ids of every completion start where its prompt ends, and no completion sees another one.
    The prompt's last hidden state predicts the first token of each of its completions, and a completion's
    last token, which predicts nothing, is left out.
    """
    ids: list[int] = []
    positions: list[int] = []
    kept: list[int] = []
    segments: list[Segment] = []
    for prompt, completions in groups:
        start, context_end = len(ids), len(ids) + len(prompt)
        segments.append(Segment(start, start, start, context_end))
        ids += prompt
        positions += range(len(prompt))
        for completion in completions:
            own, end = len(ids), len(ids) + len(completion) - 1
            if end > own:
                segments.append(Segment(start, context_end, own, end))
            kept += [context_end - 1, *range(own, end)]
            positions += range(len(prompt), len(prompt) + len(completion) - 1)
            ids += completion[:-1]
    every = [completion for _, completions in groups for completion in completions]
    return Row(
        ids=torch.tensor(ids),
        positions=torch.tensor(positions),
        segments=tuple(segments),
        kept=torch.tensor(kept),
        targets=torch.tensor([token for completion in every for token in completion]),
        lengths=tuple(len(completion) for completion in every),
    )


def plain_row(prompt: TokenIds, *, completion: TokenIds) -> Row:
    """One sequence, prompt and completion, as every causal model takes it."""
    length = len(prompt) + len(completion)
    return Row(
        ids=torch.tensor(prompt + completion),
        positions=torch.arange(length),
        segments=(Segment(0, 0, 0, length),),
        kept=torch.arange(len(prompt) - 1, length - 1),
        targets=torch.tensor(completion),
        lengths=(len(completion),),
    )
