"""One line of a prompt file: what it may say, and what is wrong with it when it does not."""

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from annotate.models import Split

ROLES = ("system", "user", "assistant")
IMPORTED_SPLITS = (Split.TRAIN, Split.HELDOUT)
KNOWN_KEYS = frozenset({"messages", "prompt", "id", "split", "tags"})


class PromptLineError(ValueError):
    """What is wrong with a line, and what to do about it."""


@dataclass(frozen=True)
class PromptLine:
    """A good line; `messages_json` is canonical, so equal chats have equal hashes."""

    messages_json: str
    external_id: str
    split: Split | None
    tags: tuple[str, ...]
    ignored_keys: frozenset[str] = frozenset()

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(self.messages_json.encode()).hexdigest()

    def to_json(self) -> str:
        return json.dumps([self.messages_json, self.external_id, self.split, self.tags])

    @classmethod
    def from_json(cls, text: str) -> "PromptLine":
        messages_json, external_id, split, tags = json.loads(text)
        return cls(messages_json, external_id, Split(split) if split else None, tuple(tags))


def canonical_messages(messages: list[dict[str, str]]) -> str:
    """Return the JSON by which two chats are compared: role, then content, nothing else."""
    plain = [{"role": message["role"], "content": message["content"]} for message in messages]
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"))


def split_of_hash(content_hash: str, *, heldout_share: float) -> Split:
    """Decide a prompt's split by its content alone: the same prompt gets the same side in every study."""
    return Split.HELDOUT if int(content_hash[:12], 16) / 16**12 < heldout_share else Split.TRAIN


def parse_prompt_line(line: bytes) -> PromptLine | None:
    """Return the prompt on a line, None for an empty line; raises PromptLineError with a sentence."""
    text = decode_line(line)
    if not text:
        return None
    data = load_object(text)
    messages = prompt_messages(data)
    return PromptLine(
        messages_json=canonical_messages(messages),
        external_id=_external_id(data.get("id")),
        split=_split(data.get("split")),
        tags=_tags(data.get("tags")),
        ignored_keys=frozenset(data) - KNOWN_KEYS,
    )


def decode_line(line: bytes) -> str:
    """Return the text of a line; raises PromptLineError when it is not UTF-8."""
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise PromptLineError(f"Byte {error.start + 1} is not UTF-8; save the file as UTF-8.") from None
    if "\x00" in text or "\\u0000" in text:
        raise PromptLineError("The line has a NUL character; remove it.")
    return text


def load_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a line; raises PromptLineError when it is something else."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise PromptLineError(f"This is not JSON: {error.msg} at column {error.colno}.") from None
    except RecursionError:
        raise PromptLineError("The JSON is nested too deeply; a prompt is a flat list of messages.") from None
    if not isinstance(data, dict):
        raise PromptLineError(f"This is a JSON {type(data).__name__}; each line must be an object, {{…}}.")
    return data


def prompt_messages(data: dict[str, Any]) -> list[dict[str, str]]:
    """Return the checked messages under "messages" or "prompt"; raises PromptLineError with a sentence."""
    if "messages" in data and "prompt" in data:
        raise PromptLineError('The line has both "messages" and "prompt"; keep one.')
    raw = data.get("messages", data.get("prompt"))
    if isinstance(raw, str):
        raw = [{"role": "user", "content": raw}]
    if raw is None:
        raise PromptLineError('The line has no prompt; add "messages": [{"role": "user", "content": "…"}].')
    if not isinstance(raw, list) or not raw:
        raise PromptLineError("The prompt must be a list with at least one message, or a text.")
    messages = [_message(message, number=number) for number, message in enumerate(raw, start=1)]
    _check_turns([message["role"] for message in messages])
    return messages


def _message(message: Any, *, number: int) -> dict[str, str]:
    if not isinstance(message, dict):
        raise PromptLineError(f'Message {number} must be an object with "role" and "content".')
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise PromptLineError(f"Message {number} has the role {role!r}; use system, user or assistant.")
    if not isinstance(content, str) or not content.strip():
        raise PromptLineError(f"Message {number} is empty; give it a text as content.")
    return {"role": role, "content": content}


def _check_turns(roles: list[str]) -> None:
    turns = roles[1:] if roles[0] == "system" else roles
    if "system" in turns:
        raise PromptLineError("A system message can only be the first one.")
    if not turns or turns[-1] != "user":
        raise PromptLineError("The last message must be the user's; the model answers it.")
    if turns[0] != "user" or any(first == second for first, second in pairwise(turns)):
        raise PromptLineError(
            "After an optional system message, user and assistant must take turns, user first."
        )


def _external_id(value: Any) -> str:
    text = "" if value is None else str(value)
    if len(text) > 200:
        raise PromptLineError(f"The id has {len(text)} characters; 200 are possible.")
    return text


def _split(value: Any) -> Split | None:
    if value is None:
        return None
    if value not in IMPORTED_SPLITS:
        raise PromptLineError(f'split = {value!r} is not known; use "train" or "heldout", or leave it out.')
    return Split(value)


def _tags(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(tag, str) and len(tag) <= 60 for tag in value):
        raise PromptLineError("tags must be a list of texts with at most 60 characters each.")
    return tuple(value)
