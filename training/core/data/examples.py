"""examples.jsonl, line by line: checks of shape and type, and the receipt of what cannot be used."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from training.core.errors import ExampleError, TrainingError
from training.core.run.directory import LeftOut, Messages, Receipt, TokenIds

MAX_LINE_BYTES = 10 * 1024 * 1024
Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class EncodedExamples(Generic[Encoded]):
    """The usable examples in file order, and those left out."""

    items: tuple[Encoded, ...]
    left_out: tuple[LeftOut, ...]
    examples: int

    def receipt(self, *, steps: int) -> Receipt:
        """What receipt.json states."""
        used = self.examples - len(self.left_out)
        return Receipt(examples=self.examples, used=used, steps=steps, left_out=self.left_out)

    def none_usable(self) -> TrainingError:
        """The error to raise when no example is left."""
        if not self.examples:
            return TrainingError("examples.jsonl is empty; put one example in each line")
        counts = Counter(entry.reason for entry in self.left_out)
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
        return TrainingError(
            f"none of the {self.examples} examples can be used ({reasons}); receipt.json says why, one by one"
        )


def encode_file(
    path: Path, *, encode: Callable[[Mapping[str, Any], str], tuple[Encoded, ...]]
) -> EncodedExamples[Encoded]:
    """Encode each line with `encode(values, id)`; an ExampleError puts the line on the receipt.

    An example without an id is called after its line. Raises TrainingError when the file is missing.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; a run directory holds config.json and examples.jsonl")
    items: list[Encoded] = []
    left_out: list[LeftOut] = []
    seen: set[str] = set()
    line = 0
    for line, raw in _numbered_lines(path):
        example_id = None
        try:
            values = _parsed(raw)
            example_id = _identifier(values, line=line)
            if example_id in seen:
                raise ExampleError("duplicate id", f"an earlier line has the id {example_id} too")
            items.extend(encode(values, example_id))
            seen.add(example_id)
        except ExampleError as error:
            left_out.append(LeftOut(line=line, id=example_id, reason=error.reason, detail=error.detail))
    return EncodedExamples(items=tuple(items), left_out=tuple(left_out), examples=len(left_out) + len(seen))


def messages(values: Mapping[str, Any], *, key: str) -> Messages:
    """A list of chat messages under `key`; raises ExampleError unless each has a role and a text content."""
    return as_messages(values.get(key), name=key)


def as_messages(value: object, *, name: str) -> Messages:
    """Check a list of chat messages; `name` is what an error calls it."""
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
    return tuple(value)


def completion_messages(value: object, *, name: str) -> Messages:
    """Messages of a completion: the last is the assistant's and says something."""
    checked = as_messages(value, name=name)
    if checked[-1]["role"] != "assistant":
        raise ExampleError("broken", f"{name} ends with the role {checked[-1]['role']}, not assistant")
    if not checked[-1]["content"].strip():
        raise ExampleError("empty", f"{name} is empty")
    return checked


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
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ExampleError("broken", f"{key} must be a finite number")
    return float(value)


def _numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as stream:
        line = 0
        while raw := _bounded_line(stream):
            line += 1
            if raw.strip():
                yield line, raw


def _bounded_line(stream: BinaryIO) -> bytes:
    raw = stream.readline(MAX_LINE_BYTES + 1)
    rest = raw
    while len(rest) > MAX_LINE_BYTES and not rest.endswith(b"\n"):
        rest = stream.readline(MAX_LINE_BYTES + 1)
    return raw


def _parsed(raw: bytes) -> Mapping[str, Any]:
    if len(raw) > MAX_LINE_BYTES:
        raise ExampleError("broken", f"the line is longer than {MAX_LINE_BYTES // 2**20} MB")
    try:
        values = json.loads(raw)
    except UnicodeDecodeError:
        raise ExampleError("broken", "the line is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ExampleError("broken", f"the line is not valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise ExampleError("broken", "the line is not a JSON object")
    return values


def _identifier(values: Mapping[str, Any], *, line: int) -> str:
    identifier = values.get("id", f"line-{line}")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int) or identifier == "":
        raise ExampleError("broken", "id must be a text or a whole number")
    return str(identifier)
