"""Win rates as pictures a hundred units wide, and who gave the verdicts."""

from django import template

from training.evaluation.judges import judges_in_words
from training.evaluation.outcomes import Tally
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


@register.filter
def judges(tally: Tally) -> str:
    """Return who gave the verdicts: people, simulated annotators by their rules, or how many of each."""
    return judges_in_words(tally)
