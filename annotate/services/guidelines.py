"""Publishing guidelines: every version is kept, and each preference says which one was in use."""

from django.db import transaction

from annotate.errors import StudyRefused
from annotate.models import GuidelinesVersion, Study, User
from annotate.services.audit import record_audit


def update_guidelines(*, study: Study, text: str, actor: User, based_on: int) -> Study:
    """Publish new guidelines as the next version.

    `based_on` is the version that was edited. Raises StudyRefused when somebody published another one
    meanwhile.
    """
    text = text.replace("\r\n", "\n").strip()
    with transaction.atomic():
        current = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        if current.guidelines == text:
            return current
        unchanged = Study.objects.filter(pk=study.pk, guidelines_version=based_on)
        if not unchanged.update(guidelines=text, guidelines_version=based_on + 1):
            raise StudyRefused(
                f"Version {current.guidelines_version} of the guidelines was published while you were "
                f"editing version {based_on}. Your text is below and not saved; compare, then save again."
            )
        published = Study.objects.get(pk=study.pk)
        keep_guidelines_version(study=published, actor=actor)
        details = {"version": based_on + 1, "characters": len(text)}
        record_audit(study=study, actor=actor, action="guidelines.changed", details=details)
    return published


def keep_guidelines_version(*, study: Study, actor: User | None) -> GuidelinesVersion:
    """Keep the study's present text under its number; call it in the transaction that changes the text."""
    return GuidelinesVersion.objects.create(
        study=study, number=study.guidelines_version, text=study.guidelines, created_by=actor
    )
