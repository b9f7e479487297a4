"""What commands are told by name."""

from django.core.management.base import CommandError

from annotate.models import Study


def find_study(text: str) -> Study:
    """Return the study with this slug or name. Raises CommandError, naming those that exist."""
    study = Study.objects.filter(slug=text).first() or Study.objects.filter(name=text).first()
    if study is None:
        slugs = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no study {text!r}; there are: {slugs or 'none yet'}.")
    return study
