"""The versions of a study's guidelines, and what changed between two of them."""

from dataclasses import dataclass

from django.db.models import Count
from django.utils.safestring import SafeString

from annotate.models import GuidelinesVersion, Preference, Study
from annotate.word_diff import word_diff


@dataclass(frozen=True)
class VersionRow:
    """A version with how many labels were given under it."""

    version: GuidelinesVersion
    labels: int


@dataclass(frozen=True)
class VersionDiff:
    """Two versions, with the words that left and came marked; None for texts too long to compare."""

    before: GuidelinesVersion
    after: GuidelinesVersion
    marked: tuple[SafeString, SafeString] | None


def versions_of(study: Study) -> list[VersionRow]:
    """Return the kept versions, newest first."""
    labels = dict(
        Preference.objects.filter(pair__study=study)
        .order_by()
        .values_list("guidelines_version")
        .annotate(n=Count("pk"))
    )
    versions = GuidelinesVersion.objects.select_related("created_by").filter(study=study).order_by("-number")
    return [VersionRow(version=version, labels=labels.get(version.number, 0)) for version in versions]


def version_diff(rows: list[VersionRow], *, before: str, after: str) -> VersionDiff | None:
    """Return the difference of two versions by number; by default of the newest from the one before it."""
    by_number = {str(row.version.number): row.version for row in rows}
    if len(rows) < 2:
        return None
    new = by_number.get(after, rows[0].version)
    older = [row.version for row in rows if row.version.number < new.number]
    old = by_number.get(before) or (older[0] if older else rows[-1].version)
    return VersionDiff(before=old, after=new, marked=word_diff(old.text, new.text))
