"""The rules of simulated annotators in words."""

from django import template

from annotate.rules import rule_in_words

register = template.Library()


@register.filter
def with_measure(rule: str) -> str:
    """Return a rule with what it counts, as in “shorter (fewest words)”."""
    return rule_in_words(rule)
