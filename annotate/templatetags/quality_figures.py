"""Figures of label quality as drawings and words."""

from django import template

from annotate.quality.statistics import Share

register = template.Library()


@register.filter
def hundred(share: float, shift: float = 0) -> str:
    """Return a share on a line of 100 units, moved by `shift`."""
    return f"{100 * share + float(shift):.2f}"


@register.filter
def range_width(share: Share) -> str:
    """Return the width of an interval on a line of 100 units."""
    return f"{100 * ((share.high or 0) - (share.low or 0)):.2f}"


@register.filter
def in_words(share: Share) -> str:
    """Return a share with its interval as a sentence for a screen reader."""
    if share.share is None or share.low is None or share.high is None:
        return "not known"
    return f"{share.share:.0%}, 95 % interval {share.low:.0%} to {share.high:.0%}, of {share.total}"
