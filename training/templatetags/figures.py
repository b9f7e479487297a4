"""Numbers as people read them."""

from datetime import datetime
from math import isfinite

from django import template
from django.utils import timezone
from django.utils.timesince import timesince

register = template.Library()

MINUTE = 60
HOUR = 60 * MINUTE
NOTHING = "–"
NBSP = "\N{NO-BREAK SPACE}"


@register.filter
def duration(seconds: float | None) -> str:
    """Return seconds in the coarsest unit that still says enough: 42 s, 3 min, 2 h 10 min."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    if whole < MINUTE:
        return f"{whole}{NBSP}s"
    if whole < HOUR:
        minutes, rest = divmod(whole, MINUTE)
        text = f"{minutes} min {rest} s" if minutes < 3 and rest else f"{minutes} min"
        return text.replace(" ", NBSP)
    hours, rest = divmod(whole, HOUR)
    text = f"{hours} h {rest // MINUTE} min" if rest >= MINUTE else f"{hours} h"
    return text.replace(" ", NBSP)


@register.filter
def ago(moment: datetime) -> str:
    """Return how long ago something was, in words that do not change every second."""
    seconds = (timezone.now() - moment).total_seconds()
    return "just now" if seconds < MINUTE else f"{timesince(moment).partition(',')[0]} ago"


def is_missing(value: object) -> bool:
    """Return whether there is no number: None, or the empty string that a template makes of a missing key."""
    return value is None or isinstance(value, str)


@register.filter
def figure(value: float | None, digits: int = 2) -> str:
    """Return a number with `digits` decimals; what is missing or not finite says so."""
    if value is None or is_missing(value):
        return NOTHING
    return f"{value:.{digits}f}".replace("-", "−") if isfinite(value) else "not finite"


@register.filter
def signed(value: float | None, digits: int = 2) -> str:
    """Return a number with its sign, for differences and rewards."""
    if value is None or is_missing(value) or not isfinite(value):
        return figure(value, digits)
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


@register.filter
def percent(share: float | None, digits: int = 0) -> str:
    """Return a share between 0 and 1 in per cent."""
    if share is None or is_missing(share) or not isfinite(share):
        return NOTHING
    return f"{100 * share:.{digits}f}{NBSP}%"


@register.filter
def compact(value: float | None) -> str:
    """Return a setting as people write it: 1e-4, 0.1, 2048."""
    if value is None:
        return NOTHING
    if value and abs(value) < 0.001:
        mantissa, exponent = f"{value:e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:g}" if abs(value) < 1e6 else f"{value:,.0f}"


@register.filter
def short_path(text: str) -> str:
    """Return the last part of a path or of a hub id: the name people know a model by."""
    return text.rstrip("/").rsplit("/", 1)[-1]
