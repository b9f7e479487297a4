"""What somebody has begun to say of a pair: kept beside the browser's own copy, gone with the verdict."""

from typing import Any

from annotate.errors import LabelRefused
from annotate.gate import write_transaction
from annotate.models import Draft, Lease, Pair, Preference, User

# A rationale, an edit and a note, each within its bound, as JSON.
LONGEST_DRAFT = 60_000
TEXTS = ("verdict", "rationale", "edit_side", "edit_text", "reason", "note")


def save_draft(*, pair: Pair, annotator: User, content: dict[str, Any], of_label: bool = False) -> None:
    """Keep a draft in place of the one before; an empty one removes it.

    A draft belongs to a pair that is held, or with `of_label` to a label that somebody changes: one that
    comes late, after its label, is none. Raises LabelRefused when this person has no such pair, or the
    content is too long.
    """
    kept = _checked(content)
    if not kept:
        drop_draft(pair=pair, annotator=annotator)
        return
    with write_transaction():
        mine = {"pair": pair, "annotator": annotator}
        if of_label and not Preference.objects.filter(**mine).exists():
            raise LabelRefused(
                "You have no label on this pair any more; the draft stays in your browser only."
            )
        if not of_label and not Lease.objects.filter(**mine).exists():
            raise LabelRefused("This pair is not held by you any more; the draft stays in your browser only.")
        Draft.objects.update_or_create(pair=pair, annotator=annotator, defaults={"content": kept})


def drop_draft(*, pair: Pair, annotator: User) -> None:
    """Remove the draft of a pair, if there is one."""
    Draft.objects.filter(pair=pair, annotator=annotator).delete()


def draft_of(*, pair: Pair, annotator: User) -> dict[str, Any] | None:
    """Return what was kept of a pair, None when nothing was."""
    content: dict[str, Any] | None = (
        Draft.objects.filter(pair=pair, annotator=annotator).values_list("content", flat=True).first()
    )
    return content


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: content[name] for name in TEXTS if isinstance(content.get(name), str) and content[name]
    }
    if content.get("strength") in (1, 2, 3, 4):
        kept["strength"] = content["strength"]
    length = sum(len(str(value)) for value in kept.values())
    if length > LONGEST_DRAFT:
        raise LabelRefused(f"The draft has {length:,} characters; {LONGEST_DRAFT:,} are possible.")
    return kept
