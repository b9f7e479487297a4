"""Formulas in Markdown: $…$, $$…$$, \\(…\\) and \\[…\\] stay as written, inside an element of their own.

Without this, Markdown would eat the backslashes and take underscores for emphasis. The browser sets the
formulas; without JavaScript the source is read. A dollar sign is far more often money than mathematics, so
$…$ counts only when what is between looks like a formula.
"""

import re
from collections.abc import Sequence
from typing import Any

from django.utils.html import escape
from markdown_it import MarkdownIt
from markdown_it.token import Token

LONGEST_FORMULA = 2_000
PAIRS = (("$$", "$$", "math-display"), ("\\[", "\\]", "math-display"), ("\\(", "\\)", "math-inline"))
# One letter, a name with arguments, a short sum of letters and digits, or anything with TeX's own signs.
FORMULA = re.compile(
    r"[A-Za-z]'?|[A-Za-z]\([^()$]{1,20}\)|.*[\\^_={}<>].*|[A-Za-z0-9]( ?[+*/-] ?[A-Za-z0-9])+", re.DOTALL
)
MONEY = re.compile(r"\d[\d.,]*( ?[+*/-] ?\d[\d.,]*)*")


def keep_math(parser: MarkdownIt) -> None:
    """Teach a parser to leave formulas alone."""
    parser.inline.ruler.before("escape", "math", _inline_rule)
    parser.add_render_rule("math", _render)


def _inline_rule(state: Any, silent: bool) -> bool:
    found = formula_at(state.src, state.pos)
    if found is None:
        return False
    source, kind = found
    if not silent:
        token = state.push("math", "span", 0)
        token.content, token.meta = source, {"class": kind}
    state.pos += len(source)
    return True


def formula_at(text: str, start: int) -> tuple[str, str] | None:
    """Return the formula that begins at `start`, delimiters included, and its CSS class, or None."""
    for opening, closing, kind in PAIRS:
        if text.startswith(opening, start):
            return _until(text, start, opening=opening, closing=closing, kind=kind)
    if text[start] != "$":
        return None
    end = text.find("$", start + 1, start + LONGEST_FORMULA)
    inside = text[start + 1 : end] if end != -1 else ""
    is_formula = (
        inside == inside.strip() != ""
        and "\n\n" not in inside
        and not text[end + 1 : end + 2].isdigit()
        and FORMULA.fullmatch(inside)
        and not MONEY.fullmatch(inside)
    )
    return (text[start : end + 1], "math-inline") if is_formula else None


def _until(text: str, start: int, *, opening: str, closing: str, kind: str) -> tuple[str, str] | None:
    end = text.find(closing, start + len(opening), start + LONGEST_FORMULA)
    if end == -1 or not text[start + len(opening) : end].strip():
        return None
    return text[start : end + len(closing)], kind


def _render(renderer: Any, tokens: Sequence[Token], index: int, options: Any, env: Any) -> str:
    token = tokens[index]
    return f'<span class="{token.meta["class"]}">{escape(token.content)}</span>'
