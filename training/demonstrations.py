"""Demonstrations as people bring them: a prompt and the answer to learn, a JSON object a line. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from training.core.data.fields import as_messages, completion_messages, plain_text
from training.core.errors import ExampleError
from training.core.run.directory import Messages

MOST_FAULTS = 20
MOST_LINES = 200_000
EXPECTED = 'expected {"prompt": "…", "completion": "…"} or {"messages": [{"role": …, "content": …}, …]}'


@dataclass(frozen=True)
class Demonstration:
    """A chat so far and the answer to learn."""

    id: str
    prompt: Messages
    completion: Messages

    def as_json(self) -> dict[str, Any]:
        """Return the object of one line of examples.jsonl in stage sft."""
        return {"id": self.id, "prompt": list(self.prompt), "completion": list(self.completion)}


@dataclass(frozen=True)
class LineFault:
    """What is wrong with a line (counted from 1)."""

    line: int
    message: str


class DemonstrationsRefused(ValueError):
    """Lines that are no demonstrations; `faults` holds the first of them."""

    def __init__(self, faults: list[LineFault], *, count: int) -> None:
        super().__init__(
            f"{count} lines are no demonstrations; first, line {faults[0].line}: {faults[0].message}"
        )
        self.faults, self.count = faults, count


def read_demonstrations(lines: Iterable[bytes]) -> list[Demonstration]:
    """Return the demonstrations of JSONL lines, all or none; empty lines count for nothing.

    Raises DemonstrationsRefused with the first faulty lines, or when there are none or too many.
    """
    found: list[Demonstration] = []
    faults: list[LineFault] = []
    count = 0
    for number, line in _filled(lines):
        if len(found) >= MOST_LINES:
            said = f"at most {MOST_LINES:,} demonstrations are taken; leave some out"
            raise DemonstrationsRefused([LineFault(number, said)], count=1)
        try:
            found.append(read_demonstration(line, id=f"line-{number}"))
        except ExampleError as error:
            count += 1
            faults += [LineFault(number, str(error))] * (len(faults) < MOST_FAULTS)
    if faults:
        raise DemonstrationsRefused(faults, count=count)
    if not found:
        raise DemonstrationsRefused([LineFault(1, f"there is no demonstration; {EXPECTED}")], count=1)
    return found


def one_prompt_alone(demonstrations: Iterable[Demonstration]) -> bool:
    """Return whether all demonstrations have the same prompt."""
    return len({json.dumps(one.prompt, sort_keys=True) for one in demonstrations}) == 1


def read_demonstration(line: bytes, *, id: str) -> Demonstration:
    """Return the demonstration of one line. Raises ExampleError."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ExampleError("broken", f"it is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise ExampleError("broken", f"it is not an object; {EXPECTED}")
    if "messages" in values:
        messages = completion_messages(values["messages"], name="messages")
        if len(messages) < 2:
            raise ExampleError("broken", "messages must have a prompt before the answer")
        return Demonstration(id, prompt=messages[:-1], completion=messages[-1:])
    return Demonstration(
        id,
        prompt=_chat(values.get("prompt"), role="user", name="prompt"),
        completion=_answer(values.get("completion")),
    )


def _chat(value: object, *, role: str, name: str) -> Messages:
    if isinstance(value, str):
        return ({"role": role, "content": plain_text(value, name=name)},)
    return as_messages(value, name=name)


def _answer(value: object) -> Messages:
    if isinstance(value, str):
        return _chat(value, role="assistant", name="completion")
    return completion_messages(value, name="completion")


def _filled(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, line.removeprefix(b"\xef\xbb\xbf")
