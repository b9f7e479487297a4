"""Model output on the lead's pages."""

from django import template
from django.utils.safestring import SafeString

from annotate.markdown import render_markdown

register = template.Library()


@register.filter
def rendered(text: str) -> SafeString:
    """Return a response as sanitised HTML, as the labelling screen shows it."""
    return render_markdown(text)
