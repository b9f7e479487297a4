"""Pairs of the lengths that people's conversations have, made from a fixed seed: nobody's data."""

import random
from dataclasses import dataclass
from pathlib import Path

from transformers import AutoTokenizer

# Mean lengths in tokens: prompt, chosen, rejected.
MEANS = (189, 142, 147)
WORDS = (
    *("river", "because", "small", "often", "light", "never", "house", "idea", "blue", "sings", "window"),
    *("paper", "quiet", "morning", "bring", "letter", "number", "people", "always", "before", "answer"),
)
POLITE, CURT = ("certainly", "please", "thank", "gladly"), ("no", "whatever", "fine", "stop")


@dataclass(frozen=True)
class Pair:
    """A preference as token ids."""

    id: str
    prompt: tuple[int, ...]
    chosen: tuple[int, ...]
    rejected: tuple[int, ...]


def made_pairs(
    model: Path, *, count: int, seed: int = 0, means: tuple[int, int, int] = MEANS, spread: float = 0.5
) -> list[Pair]:
    """`count` pairs with the mean lengths `means`, spread as in conversations (log-normal, σ = spread)."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    numbers = random.Random(seed)
    lengths = [_lengths(mean, count=count, spread=spread, numbers=numbers) for mean in means]
    styles = ((), POLITE, CURT)

    def tokens(kind: int, place: int) -> tuple[int, ...]:
        wanted = lengths[kind][place]
        text = " ".join(numbers.choice([*WORDS, *styles[kind]]) for _ in range(2 * wanted + 4))
        return tuple(tokenizer(text)["input_ids"][:wanted])

    return [Pair(f"pair-{place}", *(tokens(kind, place) for kind in range(3))) for place in range(count)]


def _lengths(mean: int, *, count: int, spread: float, numbers: random.Random) -> list[int]:
    """Log-normal lengths, scaled to their mean."""
    drawn = [numbers.lognormvariate(0, spread) for _ in range(count)]
    return [max(2, round(value * mean * count / sum(drawn))) for value in drawn]
