"""Intervals as widths in a picture that is a hundred units wide."""

from django import template

from training.statistics import Interval

register = template.Library()


@register.filter
def hundredths(share: float) -> str:
    """Return a share between 0 and 1 in hundredths."""
    return f"{100 * share:.1f}"


@register.filter
def span(interval: Interval) -> str:
    """Return how wide an interval is, in hundredths."""
    return f"{100 * (interval.high - interval.low):.1f}"
