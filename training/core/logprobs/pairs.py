"""Per-token log-probs of completions, and of pairs with the prompt computed once where that is possible."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Protocol

import torch
from torch import Tensor, nn

from training.core.logprobs.paths import LogpsPath, logps_path, row_logps
from training.core.logprobs.rows import plain_row, shared_row
from training.core.run.directory import TokenIds

# Where nobody says how many pairs a pass has: as many as come to this many tokens. More gain little speed and
# cost memory (docs/decisions/trainer-speed.md).
TOKENS_PER_PASS = 2048
# A prompt and completions of it.
Group = tuple[TokenIds, Sequence[TokenIds]]


@dataclass(frozen=True)
class PairTokenLogps:
    """Log-probs in nats of each completion token, float32, shapes (n_w,) and (n_l,)."""

    chosen: Tensor
    rejected: Tensor


class PairTokens(Protocol):
    """A pair as token ids."""

    @property
    def prompt(self) -> TokenIds: ...

    @property
    def chosen(self) -> TokenIds: ...

    @property
    def rejected(self) -> TokenIds: ...


def completion_token_logps(
    policy: nn.Module, *, prompt: TokenIds, completion: TokenIds, chunk_tokens: int | None = None
) -> Tensor:
    """log π(y_t | x, y_<t) for each token of one completion, float32, shape (n,).

    The hidden states are selected at the positions that predict the completion before the LM head, so prompt
    positions have neither logits nor a gradient; the softmax is in float32.
    """
    return row_logps(policy, row=plain_row(prompt, completion=completion), chunk_tokens=chunk_tokens)


def completions_token_logps(
    policy: nn.Module,
    *,
    completions: Sequence[tuple[TokenIds, TokenIds]],
    chunk_tokens: int | None = None,
    hits: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """`completion_token_logps` of several (prompt, completion), in one pass where the model can.

    `hits`, bool, of all completions' tokens in order, is filled with whether each was the likeliest one.
    """
    groups = [(prompt, (completion,)) for prompt, completion in completions]
    return groups_token_logps(policy, groups=groups, chunk_tokens=chunk_tokens, hits=hits)


def groups_token_logps(
    policy: nn.Module,
    *,
    groups: Sequence[Group],
    chunk_tokens: int | None = None,
    hits: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """The log-probs of prompts' completions, in order, float32: in one row without padding, each prompt once.

    A model whose attention cannot be shared computes them completion by completion, and so does one whose
    positions depend on the row's length where that matters.
    """
    completions = [(prompt, completion) for prompt, several in groups for completion in several]
    lengths = [len(completion) for _, completion in completions]
    if _may_share(logps_path(policy), completions=completions):
        row = shared_row(groups)
        return torch.split(row_logps(policy, row=row, chunk_tokens=chunk_tokens, hits=hits), lengths)
    parts = [None] * len(lengths) if hits is None else torch.split(hits, lengths)
    return tuple(
        row_logps(policy, row=plain_row(prompt, completion=completion), chunk_tokens=chunk_tokens, hits=part)
        for (prompt, completion), part in zip(completions, parts, strict=True)
    )


def _may_share(path: LogpsPath, *, completions: Sequence[tuple[TokenIds, TokenIds]]) -> bool:
    longest = max((len(prompt) + len(completion) for prompt, completion in completions), default=0)
    return path.shares_prompt and (path.longest is None or longest <= path.longest)


def group_logps(
    policy: nn.Module, *, pairs: Sequence[PairTokens], chunk_tokens: int | None = None
) -> tuple[PairTokenLogps, ...]:
    """The log-probs of several pairs, in one forward pass where the model can."""
    groups = [(pair.prompt, (pair.chosen, pair.rejected)) for pair in pairs]
    every = groups_token_logps(policy, groups=groups, chunk_tokens=chunk_tokens)
    return tuple(
        PairTokenLogps(chosen=every[2 * index], rejected=every[2 * index + 1]) for index in range(len(pairs))
    )


def pair_tokens(pair: PairTokens) -> int:
    """The tokens of a pair, its prompt counted once."""
    return group_tokens((pair.prompt, (pair.chosen, pair.rejected)))


def group_tokens(group: Group) -> int:
    """The tokens of a prompt and its completions."""
    prompt, completions = group
    return len(prompt) + sum(len(completion) for completion in completions)


def passes(
    tokens: Sequence[int], *, pairs_per_pass: int | None, most: float = TOKENS_PER_PASS
) -> list[slice]:
    """How pairs of so many tokens are divided into passes, in order.

    `pairs_per_pass` to each; None: as many as fit into `most` tokens, one at least.
    """
    starts, filled = [0], 0
    for place, count in enumerate(tokens):
        full = filled + count > most if pairs_per_pass is None else place - starts[-1] == pairs_per_pass
        if full and place > starts[-1]:
            starts.append(place)
            filled = 0
        filled += count
    return [slice(start, end) for start, end in pairwise([*starts, len(tokens)]) if end > start]


def grouped_passes(
    completions: Sequence[tuple[TokenIds, TokenIds]], *, at_once: int = 1
) -> list[list[Group]]:
    """Completions divided into passes, in order; neighbours with one prompt share it.

    Passes that are computed `at_once` share TOKENS_PER_PASS; what is less is divided between them, too.
    """
    groups: list[Group] = [
        (prompt, [completion for _, completion in group])
        for prompt, group in groupby(completions, key=lambda one: one[0])
    ]
    tokens = [group_tokens(group) for group in groups]
    most = min(TOKENS_PER_PASS, sum(tokens)) / at_once
    return [groups[part] for part in passes(tokens, pairs_per_pass=None, most=most)]
