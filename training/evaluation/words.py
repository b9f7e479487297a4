"""Figures inside sentences. Pure."""

import re

MINUS = "\N{MINUS SIGN}"
# A hyphen before a number, but in 1e-5, 31-40 and the like.
NEGATIVE = re.compile(r"(?<![\w.\-])-(?=\d)")
NBSP = "\N{NO-BREAK SPACE}"


def percent(share: float) -> str:
    """Return a share between 0 and 1 in per cent, as in 63 %."""
    return f"{100 * share:.0f}{NBSP}%"


def signed(value: float) -> str:
    """Return a number of three digits with its sign; 0 has none."""
    return with_minus(f"{value:+.3g}") if value else "0"


def number(value: float) -> str:
    """Return a number of three digits; a sign only below 0."""
    return with_minus(f"{value:.3g}")


def with_minus(sentence: str) -> str:
    """Return a sentence with the sign of minus before its negative numbers, where programs write a hyphen."""
    return NEGATIVE.sub(MINUS, sentence)
