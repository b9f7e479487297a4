"""The reference's log-probs, from the ledger where it knows them, computed and stored where it does not."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from training.core.logprobs.head import Head, chunked_token_logps
from training.core.logprobs.ledger import Ledger
from training.core.logprobs.pairs import PairTokenLogps, PairTokens, completion_token_logps
from training.core.logprobs.paths import logps_path
from training.core.model.attention import Segment, without_masks
from training.core.model.loading import causal_model, reference_mode
from training.core.process import raise_if_stopped
from training.core.run.directory import TokenIds

# The names of the two ways of computing; a change that changes the values' rounding needs another number.
PROMPT_FIRST, WHOLE = "prompt first 1", "whole sequence 1"


class Shown(Protocol):
    """What shows a person how far it is."""

    def advance(self) -> None: ...


def reference_logps(
    policy: nn.Module, *, pairs: Sequence[PairTokens], ledger: Ledger, shown: Shown
) -> tuple[PairTokenLogps, ...]:
    """The reference's per-token log-probs of every pair, on the CPU; `shown` advances once per pair.

    Those that the ledger knows cost no forward pass. A completion's values depend on it and its prompt alone,
    so that an entry computed again is the same bit for bit on the same CPU.
    """
    every = [(pair.prompt, completion) for pair in pairs for completion in (pair.chosen, pair.rejected)]
    values = list(_logps(policy, completions=every, ledger=ledger, shown=shown, share=2))
    return tuple(
        PairTokenLogps(chosen=chosen, rejected=rejected)
        for chosen, rejected in zip(values[::2], values[1::2], strict=True)
    )


def reference_completion_logps(
    policy: nn.Module, *, completions: Sequence[tuple[TokenIds, TokenIds]], ledger: Ledger, shown: Shown
) -> tuple[Tensor, ...]:
    """`reference_logps` for single (prompt, completion); `shown` advances once per completion."""
    return tuple(_logps(policy, completions=completions, ledger=ledger, shown=shown, share=1))


def _logps(
    policy: nn.Module,
    *,
    completions: Sequence[tuple[TokenIds, TokenIds]],
    ledger: Ledger,
    shown: Shown,
    share: int,
) -> Iterator[Tensor]:
    method = PROMPT_FIRST if logps_path(policy).shares_prompt else WHOLE
    done = 0
    for prompt, group in groupby(completions, key=lambda pair: pair[0]):
        raise_if_stopped(where="before the first step")
        reference = _Prompt(policy, prompt=prompt)
        for _, completion in group:
            key = ledger.key(method=method, prompt=prompt, completion=completion)
            logps = ledger.read(key, tokens=len(completion))
            if logps is None:
                logps = reference.logps(completion)
                ledger.write(key, logps=logps)
            yield logps
            done += 1
            if done % share == 0:
                shown.advance()


class _Prompt:
    """A prompt whose completions are asked for one by one; its keys and values are computed once at most."""

    def __init__(self, policy: nn.Module, *, prompt: TokenIds) -> None:
        self._policy, self._prompt = policy, prompt
        self._head = logps_path(policy).head if logps_path(policy).shares_prompt else None
        self._cache: DynamicCache | None = None
        self._last = torch.empty(0)

    def logps(self, completion: TokenIds) -> Tensor:
        """The reference's log-probs of one completion, float32, (n,), on the CPU."""
        with reference_mode(self._policy), _nothing_recomputed(self._policy):
            if self._head is None:
                return completion_token_logps(self._policy, prompt=self._prompt, completion=completion).cpu()
            return self._after_prompt(completion, head=self._head).cpu()

    def _after_prompt(self, completion: TokenIds, *, head: Head) -> Tensor:
        length = len(self._prompt)
        if self._cache is None:
            self._cache = DynamicCache()
            self._last = self._hidden(self._prompt, seen=0)[-1:]
        hidden = self._last
        if len(completion) > 1:
            hidden = torch.cat([hidden, self._hidden(completion[:-1], seen=length)])
            self._cache.crop(1 - len(completion))
        targets = torch.tensor(completion, device=hidden.device)
        return chunked_token_logps(hidden, head=head, targets=targets)

    def _hidden(self, tokens: TokenIds, *, seen: int) -> Tensor:
        """The last hidden states of tokens after `seen` others, (n, d); the cache knows them afterwards."""
        model: Any = causal_model(self._policy)
        device = next(model.parameters()).device
        end = seen + len(tokens)
        with without_masks():
            output = model.base_model(
                input_ids=torch.tensor([tokens], device=device),
                position_ids=torch.arange(seen, end, device=device)[None],
                past_key_values=self._cache,
                use_cache=True,
                segments=(Segment(0, seen, seen, end),),
            )
        hidden: Tensor = output[0][0]
        return hidden


@contextmanager
def _nothing_recomputed(policy: nn.Module) -> Iterator[None]:
    """Inside, no layer is set to recompute its activations, which would have it forget the cache."""
    every: list[Any] = list(policy.modules())
    layers = [layer for layer in every if getattr(layer, "gradient_checkpointing", False)]
    for layer in layers:
        layer.gradient_checkpointing = False
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = True
