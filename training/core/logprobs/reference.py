"""The reference's log-probs, from the ledger where it knows them, computed and stored where it does not."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Protocol

from torch import Tensor, nn

from training.core.lanes import ONE, Lanes
from training.core.logprobs.ledger import Ledger
from training.core.logprobs.pairs import (
    Group,
    PairTokenLogps,
    PairTokens,
    grouped_passes,
    groups_token_logps,
)
from training.core.logprobs.paths import LogpsPath, logps_path
from training.core.model.loading import reference_mode
from training.core.process import raise_if_stopped
from training.core.run.directory import TokenIds

# The names of the ways of computing; a change that changes the values' rounding needs another number.
SHARED, WHOLE, BY_LENGTH = "shared row 3", "whole sequence 3", "row by length 1"
Completion = tuple[TokenIds, TokenIds]


class Shown(Protocol):
    """What shows a person how far it is."""

    def advance(self) -> None: ...


def reference_logps(
    policy: nn.Module, *, pairs: Sequence[PairTokens], ledger: Ledger, shown: Shown, lanes: Lanes = ONE
) -> tuple[PairTokenLogps, ...]:
    """The reference's per-token log-probs of every pair, on the CPU; `shown` advances once per pair.

    Those that the ledger knows cost no forward pass. A completion's values depend on it and its prompt alone,
    so that an entry computed again is the same bit for bit on the same CPU with as many threads.
    """
    every = [(pair.prompt, completion) for pair in pairs for completion in (pair.chosen, pair.rejected)]
    values = _logps(policy, completions=every, ledger=ledger, shown=shown, share=2, lanes=lanes)
    return tuple(
        PairTokenLogps(chosen=chosen, rejected=rejected)
        for chosen, rejected in zip(values[::2], values[1::2], strict=True)
    )


def reference_completion_logps(
    policy: nn.Module,
    *,
    completions: Sequence[Completion],
    ledger: Ledger,
    shown: Shown,
    lanes: Lanes = ONE,
) -> tuple[Tensor, ...]:
    """`reference_logps` for single (prompt, completion); `shown` advances once per completion."""
    return tuple(_logps(policy, completions=completions, ledger=ledger, shown=shown, share=1, lanes=lanes))


def _logps(
    policy: nn.Module,
    *,
    completions: Sequence[Completion],
    ledger: Ledger,
    shown: Shown,
    share: int,
    lanes: Lanes,
) -> list[Tensor]:
    method = _method(logps_path(policy))
    keys = [ledger.key(method=method, prompt=prompt, completion=own) for prompt, own in completions]
    found = {key: ledger.read(key, tokens=len(own)) for key, (_, own) in zip(keys, completions, strict=True)}
    known = {key: logps for key, logps in found.items() if logps is not None}
    missing = {key: one for key, one in zip(keys, completions, strict=True) if key not in known}
    left = len(missing)
    done = _advanced(shown, before=0, after=(len(completions) - left) // share)
    for completion, logps in _computed(policy, completions=list(missing.values()), lanes=lanes):
        key = ledger.key(method=method, prompt=completion[0], completion=completion[1])
        ledger.write(key, logps=logps)
        known[key] = logps
        left -= 1
        done = _advanced(shown, before=done, after=(len(completions) - left) // share)
    return [known[key] for key in keys]


def _method(path: LogpsPath) -> str:
    if path.longest is not None:
        return BY_LENGTH
    return SHARED if path.shares_prompt else WHOLE


def _advanced(shown: Shown, *, before: int, after: int) -> int:
    for _ in range(after - before):
        shown.advance()
    return after


def _computed(
    policy: nn.Module, *, completions: Sequence[Completion], lanes: Lanes
) -> Iterator[tuple[Completion, Tensor]]:
    """Each completion with its log-probs under the reference, float32, (n,), on the CPU.

    Several in a pass, and a prompt once for its completions, where neither changes a value; else one by one.
    """
    if logps_path(policy).steady:
        every = grouped_passes(completions, at_once=lanes.count)
    else:
        every = [[(prompt, [completion])] for prompt, completion in completions]
    for start in range(0, len(every), lanes.count):
        raise_if_stopped(where="before the first step")
        part = every[start : start + lanes.count]
        with reference_mode(policy):
            found = lanes.each(partial(_pass, policy), part)
        own = [(prompt, one) for groups in part for prompt, several in groups for one in several]
        yield from zip(own, (logps.cpu() for logps in chain(*found)), strict=True)


def _pass(policy: nn.Module, groups: Sequence[Group]) -> tuple[Tensor, ...]:
    return groups_token_logps(policy, groups=groups)
