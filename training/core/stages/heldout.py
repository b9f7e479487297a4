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
    """Training examples and held-out ones, both in their old order; `share` is above 0.

    A prompt is held out when the hash of its tokens and the seed is below `share`: adding examples moves no
    other one to the other side, and a larger share only adds to the held-out ones. Few prompts may all hash
    to one side: of two or more the one with the smallest hash is held out nevertheless, and the one with the
    largest is trained on. A prompt that is the only one is trained on, and nothing is held out.
    """
    fractions = {item.prompt: _fraction(item.prompt, seed=seed) for item in items}
    prompts = sorted(fractions, key=lambda prompt: fractions[prompt])
    below = {prompt for prompt in prompts if fractions[prompt] < share}
    chosen = (below | set(prompts[:1])) - set(prompts[-1:])
    training = tuple(item for item in items if item.prompt not in chosen)
    heldout = tuple(item for item in items if item.prompt in chosen)
    return training, heldout


def _fraction(prompt: TokenIds, *, seed: int) -> float:
    """A number in [0, 1) that the prompt and the seed decide."""
    digest = hashlib.sha256(f"{seed}:{','.join(map(str, prompt))}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
