"""Texts as long and as marked up as those that models write, made of common words, the same in every run."""

from __future__ import annotations

import random

TEXT = """
the of and a to in is that it was for on are as with they at be this from have or by one had not but
what all were when we there can an your which their said if do will each about how up out them then
she many some so these would other into has more her two like him see time could no make than first
been its who now people my made over did down only way find use may water long little very after
words called just where most know answer reason light model learn question because number result
example
"""
WORDS = TEXT.split()


def response_text(number: int) -> str:
    """Return response `number`: 100 to 200 words, every second time with a list and bold words."""
    chance = random.Random(number)
    length = chance.randint(100, 200)
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < length:
        sentences.append(_sentence(chance))
    middle = len(sentences) // 2
    first, second = " ".join(sentences[:middle]), sentences[middle:]
    if number % 2:
        return f"{first}\n\n{' '.join(second)}"
    points = "\n".join(f"{place}. **{text.split()[0]}** {text}" for place, text in enumerate(second, start=1))
    return f"{first}\n\n{points}"


def prompt_text(number: int) -> str:
    """Return the question of prompt `number`."""
    return f"Question {number}: " + _sentence(random.Random(-number)).replace(".", "?")


def _sentence(chance: random.Random) -> str:
    words = chance.choices(WORDS, k=chance.randint(8, 18))
    return f"{' '.join(words).capitalize()}."
