"""The values of one example: checks of shape, type and range. No torch."""

import json
import math
from collections.abc import Mapping
from typing import Any

from training.core.errors import ExampleError
from training.core.run.directory import Messages, TokenIds


def as_messages(value: object, *, name: str) -> Messages:
    """Check a list of chat messages; `name` is what an error calls it.

    Raises ExampleError unless each message has a role and a text content of valid Unicode.
    """
    if value is None:
        raise ExampleError("broken", f"{name} is missing")
    if not isinstance(value, list) or not value:
        raise ExampleError("broken", f"{name} must be a list of messages with role and content")
    for message in value:
        well_formed = isinstance(message, dict) and all(
            isinstance(message.get(key), str) for key in ("role", "content")
        )
        if not well_formed:
            raise ExampleError("broken", f"{name} has a message without a role and a text content")
        check_unicode(message["content"], name=name)
        check_unicode(message["role"], name=name)
    return tuple(value)


def completion_messages(value: object, *, name: str) -> Messages:
    """Messages of a completion: the last is the assistant's and says something."""
    checked = as_messages(value, name=name)
    if checked[-1]["role"] != "assistant":
        raise ExampleError("broken", f"{name} ends with the role {checked[-1]['role']}, not assistant")
    if not checked[-1]["content"].strip():
        raise ExampleError("empty", f"{name} is empty")
    return checked


def plain_text(value: object, *, name: str) -> str:
    """A text that says something, in TRL's standard format."""
    if not isinstance(value, str):
        raise ExampleError("broken", f"{name} is missing")
    if not value.strip():
        raise ExampleError("empty", f"{name} is empty")
    check_unicode(value, name=name)
    return value


def check_unicode(text: str, *, name: str) -> None:
    """Raise ExampleError when the text holds half of a surrogate pair, which no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExampleError(
            "broken",
            f"{name} holds half a surrogate pair at character {error.start}; it is not valid Unicode",
        ) from None


def token_ids(value: object, *, name: str, vocabulary: int) -> TokenIds | None:
    """Stored token ids, None when there are none; raises ExampleError on ids outside the vocabulary."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(type(token) is int for token in value):
        raise ExampleError("broken", f"{name} must be a list of whole numbers")
    if not value:
        raise ExampleError("empty", f"{name} is empty")
    outside = next((token for token in value if not 0 <= token < vocabulary), None)
    if outside is not None:
        raise ExampleError("broken", f"{name} holds {outside}, outside the vocabulary of {vocabulary} tokens")
    return tuple(value)


def number(values: Mapping[str, Any], *, key: str, default: float) -> float:
    """A finite number under `key`."""
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ExampleError("broken", f"{key} must be a finite number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise ExampleError("broken", f"{key} must be a finite number")
    return found


def boolean(values: Mapping[str, Any], *, key: str, default: bool | None = None) -> bool:
    """True or false under `key`; raises ExampleError when it is missing and has no default."""
    value = values.get(key, default)
    if not isinstance(value, bool):
        raise ExampleError("broken", f"{key} must be true or false")
    return value


def template_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the chat template is given beside the messages: TRL's `tools` and `chat_template_kwargs`."""
    options = values.get("chat_template_kwargs") or {}
    if not isinstance(options, dict):
        raise ExampleError("broken", "chat_template_kwargs must be an object")
    tools = values.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools)
        except ValueError:
            raise ExampleError("broken", "tools must be a list of tools, or one written as JSON") from None
    if tools is not None and not isinstance(tools, list):
        raise ExampleError("broken", "tools must be a list of tools, or one written as JSON")
    return {**options, **({"tools": tools} if tools else {})}
