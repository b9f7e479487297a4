"""An annotator's better version of one response: checked, and stored as a response of its own."""

from dataclasses import dataclass

from annotate.errors import LabelRefused
from annotate.models import Pair, Response, Side

LONGEST_EDIT = 40_000


@dataclass(frozen=True)
class Edit:
    """What an annotator made of the response that is stored on `side`."""

    side: Side
    text: str


def response_on(pair: Pair, *, side: Side) -> Response:
    """Return the pair's stored response A or B."""
    return pair.response_a if side == Side.A else pair.response_b


def store_edit(edit: Edit, *, pair: Pair) -> Response:
    """Store the text of an edit; the same text for the same prompt is stored once.

    Raises LabelRefused when the study takes no edits, or when the text is empty, too long, or not changed.
    """
    text = edit.text.replace("\r\n", "\n").strip()
    _check(text, pair=pair, original=response_on(pair, side=edit.side).text)
    stored = Response.objects.filter(prompt_id=pair.prompt_id, text=text).order_by("pk").first()
    return stored or Response.objects.create(prompt_id=pair.prompt_id, text=text)


def _check(text: str, *, pair: Pair, original: str) -> None:
    if not pair.study.allow_edit:
        raise LabelRefused("This study takes no edits. Remove yours and submit again.")
    if not text:
        raise LabelRefused("An edited response cannot be empty. Write it, or remove the edit.")
    if len(text) > LONGEST_EDIT:
        raise LabelRefused(
            f"The edited response has {len(text):,} characters; {LONGEST_EDIT:,} are possible. Shorten it."
        )
    if text == original.replace("\r\n", "\n").strip():
        raise LabelRefused("The edited response says the same as before. Change it, or remove the edit.")
