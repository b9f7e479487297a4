"""What the commands of this app share."""

from django.core.management.base import CommandError

from annotate.models import Study


def study_named(name: str) -> Study:
    """Return the study with this slug or name, or say which there are."""
    study = Study.objects.filter(slug=name).first() or Study.objects.filter(name=name).first()
    if study is None:
        known = ", ".join(Study.objects.order_by("slug").values_list("slug", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no study {name!r}. Studies: {known}.")
    return study
