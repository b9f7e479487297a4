"""Figures inside sentences. Pure."""

NBSP = "\N{NO-BREAK SPACE}"


def percent(share: float) -> str:
    """Return a share between 0 and 1 in per cent, as in 63 %."""
    return f"{100 * share:.0f}{NBSP}%"


def signed(value: float) -> str:
    """Return a number of three digits with its sign; 0 has none."""
    return f"{value:+.3g}".replace("-", "−") if value else "0"
