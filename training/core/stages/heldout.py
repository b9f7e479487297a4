"""Which examples are held out: by prompt, so that no prompt is on both sides."""

import hashlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from training.core.run.directory import TokenIds


class _HasPrompt(Protocol):
    @property
    def prompt(self) -> TokenIds: ...


Example = TypeVar("Example", bound=_HasPrompt)


def split_by_prompt(
    items: Sequence[Example], *, share: float, seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Training examples and held-out ones, both in their old order.

    A prompt is held out when the hash of its tokens and the seed is below `share`: adding examples moves no
    other one to the other side, and a larger share only adds to the held-out ones.
    """
    training = tuple(item for item in items if _fraction(item.prompt, seed=seed) >= share)
    heldout = tuple(item for item in items if _fraction(item.prompt, seed=seed) < share)
    return training, heldout


def _fraction(prompt: TokenIds, *, seed: int) -> float:
    """A number in [0, 1) that the prompt and the seed decide."""
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
