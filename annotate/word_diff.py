"""Which words differ between two texts. Pure; what it returns as HTML is escaped."""

import re
from collections.abc import Sequence
from itertools import groupby

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

# Time and memory go with the product of the lengths. `difflib` is no alternative: it takes half a minute for
# a thousand words that repeat themselves, as a collapsed policy writes them.
LARGEST_TABLE = 100_000
WORD = re.compile(r"\S+\s*")
SENTENCE = re.compile(r"\S.*?(?:[.!?:]\s+|\n\s*|$)", re.DOTALL)


def word_diff(before: str, after: str) -> tuple[SafeString, SafeString] | None:
    """Return `before` with <del> around words that left and `after` with <ins> around words that came.

    Long texts are compared sentence by sentence; None when they are too long even for that.
    """
    for pieces in (WORD, SENTENCE):
        pieces_before, pieces_after = pieces.findall(before), pieces.findall(after)
        kept = kept_pieces(stripped(pieces_before), stripped(pieces_after))
        if kept is not None:
            return marked("del", pieces_before, kept=kept[0]), marked("ins", pieces_after, kept=kept[1])
    return None


def stripped(pieces: Sequence[str]) -> list[str]:
    return [piece.rstrip() for piece in pieces]


def kept_pieces(before: Sequence[str], after: Sequence[str]) -> tuple[list[bool], list[bool]] | None:
    """Return per piece whether both texts have it, in order; None when the table would be too large."""
    head = common_length(before, after)
    tail = common_length(before[head:][::-1], after[head:][::-1])
    middle_before, middle_after = before[head : len(before) - tail], after[head : len(after) - tail]
    # A piece that only one text has cannot be kept, so the table does without it.
    shared = set(middle_before) & set(middle_after)
    candidates_before = [piece for piece in middle_before if piece in shared]
    candidates_after = [piece for piece in middle_after if piece in shared]
    if len(candidates_before) * len(candidates_after) > LARGEST_TABLE:
        return None
    kept_before, kept_after = map(iter, heaviest_common(candidates_before, candidates_after))
    same_head, same_tail = [True] * head, [True] * tail
    return (
        same_head + [piece in shared and next(kept_before) for piece in middle_before] + same_tail,
        same_head + [piece in shared and next(kept_after) for piece in middle_after] + same_tail,
    )


def common_length(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many pieces two texts begin with in common."""
    pairs = zip(before, after, strict=False)
    return next(
        (place for place, (left, right) in enumerate(pairs) if left != right), min(len(before), len(after))
    )


def heaviest_common(before: Sequence[str], after: Sequence[str]) -> tuple[list[bool], list[bool]]:
    """Mark the common subsequence with the most letters: long words hold a text together."""
    best = score_table(before, after)
    kept_before, kept_after = [False] * len(before), [False] * len(after)
    i = j = 0
    while i < len(before) and j < len(after):
        if before[i] == after[j] and best[i][j] == best[i + 1][j + 1] + len(before[i]):
            kept_before[i] = kept_after[j] = True
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return kept_before, kept_after


def score_table(before: Sequence[str], after: Sequence[str]) -> list[list[int]]:
    """Return best[i][j]: the most letters that before[i:] and after[j:] have in common, in order."""
    best = [[0] * (len(after) + 1) for _ in range(len(before) + 1)]
    for i in range(len(before) - 1, -1, -1):
        row, below, piece = best[i], best[i + 1], before[i]
        for j in range(len(after) - 1, -1, -1):
            skipped = max(row[j + 1], below[j])
            matched = below[j + 1] + len(piece) if piece == after[j] else 0
            row[j] = max(skipped, matched)
    return best


def marked(tag: str, pieces: Sequence[str], *, kept: Sequence[bool]) -> SafeString:
    """Return the pieces as HTML, each run of pieces that were not kept inside one `tag`."""
    runs = groupby(zip(pieces, kept, strict=True), key=lambda item: item[1])
    return mark_safe("".join(run_html(tag, [piece for piece, _ in run], is_kept=same) for same, run in runs))


def run_html(tag: str, pieces: Sequence[str], *, is_kept: bool) -> str:
    text = "".join(pieces)
    if is_kept:
        return escape(text)
    body = text.rstrip()
    return f"<{tag}>{escape(body)}</{tag}>{escape(text[len(body) :])}"
