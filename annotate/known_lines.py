"""One line of a file of gold or practice pairs: two responses, the verdict they should get, and why."""

import hashlib
from dataclasses import dataclass
from typing import Any

from annotate.models import Verdict
from annotate.prompt_lines import (
    PromptLineError,
    canonical_messages,
    decode_line,
    load_object,
    prompt_messages,
)

LONGEST_TEXT = 100_000


@dataclass(frozen=True)
class KnownLine:
    """A checked line; `messages_json` is canonical, so that equal chats share one prompt."""

    messages_json: str
    response_a: str
    response_b: str
    verdict: Verdict
    explanation: str

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(self.messages_json.encode()).hexdigest()


def parse_known_line(line: bytes) -> KnownLine | None:
    """Return the pair on a line, None for an empty line; raises PromptLineError with a sentence."""
    text = decode_line(line)
    return known_line(load_object(text)) if text else None


def known_line(data: dict[str, Any]) -> KnownLine:
    """Check one pair given as a JSON object; raises PromptLineError with a sentence."""
    messages = prompt_messages(data)
    response_a, response_b = _response(data, key="response_a"), _response(data, key="response_b")
    if response_a == response_b:
        raise PromptLineError("response_a and response_b are the same; a pair has two different ones.")
    return KnownLine(
        messages_json=canonical_messages(messages),
        response_a=response_a,
        response_b=response_b,
        verdict=_verdict(data.get("verdict")),
        explanation=_explanation(data.get("explanation", "")),
    )


def _response(data: dict[str, Any], *, key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str) or not value.strip():
        raise PromptLineError(f"{key} is missing or empty; give it the text of a response.")
    if len(value) > LONGEST_TEXT:
        raise PromptLineError(f"{key} has {len(value):,} characters; {LONGEST_TEXT:,} are possible.")
    return value.replace("\r\n", "\n").strip()


def _verdict(value: Any) -> Verdict:
    if value not in Verdict.values:
        raise PromptLineError(f'verdict = {value!r} is not known; use "a", "b", "tie" or "both_bad".')
    return Verdict(value)


def _explanation(value: Any) -> str:
    if not isinstance(value, str) or len(value) > LONGEST_TEXT:
        raise PromptLineError("explanation must be a text: why this verdict is the right one.")
    return value.replace("\r\n", "\n").strip()
