"""Which words differ between two texts. Pure; what it returns as HTML is escaped."""

import re
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# SequenceMatcher takes time with the product of the lengths, worst on a text that repeats itself.
LONGEST_DIFF = 1_000_000


def changed_share(before: str, after: str) -> float:
    """Return the share of words, counted with repetition, that the two texts do not have in common: 0 … 1.

    1 − 2·|common| / (|before| + |after|), a bag-of-words distance: cheap enough for every prompt of a study.
    """
    counts_before, counts_after = Counter(before.split()), Counter(after.split())
    total = counts_before.total() + counts_after.total()
    return 1 - 2 * (counts_before & counts_after).total() / total if total else 0.0


def word_diff(before: str, after: str) -> tuple[SafeString, SafeString] | None:
    """Return `before` with <del> around words that left and `after` with <ins> around words that came.

    None when the texts are too long to be compared word by word in a page's time.
    """
    words_before, words_after = words(before), words(after)
    if len(words_before) * len(words_after) > LONGEST_DIFF:
        return None
    left: list[str] = []  # escaped pieces
    right: list[str] = []
    matcher = SequenceMatcher(None, stripped(words_before), stripped(words_after), autojunk=False)
    for operation, start_before, end_before, start_after, end_after in matcher.get_opcodes():
        same = operation == "equal"
        left.append(marked("del", words_before[start_before:end_before], same=same))
        right.append(marked("ins", words_after[start_after:end_after], same=same))
    return mark_safe("".join(left)), mark_safe("".join(right))


def words(text: str) -> list[str]:
    """Return the words, each with the white space after it."""
    return re.findall(r"\S+\s*", text)


def stripped(items: Sequence[str]) -> list[str]:
    return [item.rstrip() for item in items]


def marked(tag: str, items: Sequence[str], *, same: bool) -> str:
    text = "".join(items)
    if same or not text:
        return escape(text)
    body = text.rstrip()
    return f"<{tag}>{escape(body)}</{tag}>{escape(text[len(body) :])}"
