"""examples.jsonl, line by line, and the receipt of what cannot be used and what was noticed. No torch."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from training.core.data.fields import check_unicode
from training.core.errors import ExampleError, TrainingError
from training.core.run.directory import LeftOut, Receipt

MAX_LINE_BYTES = 10 * 1024 * 1024
Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Remark:
    """Something worth knowing of an example that is used."""

    reason: str
    detail: str


@dataclass(frozen=True)
class EncodedLine(Generic[Encoded]):
    """What one line came to; `from_text` says that a text of it was tokenised."""

    items: tuple[Encoded, ...]
    from_text: bool = False
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class EncodedExamples(Generic[Encoded]):
    """The usable examples in file order, those left out, and remarks on used ones."""

    items: tuple[Encoded, ...]
    left_out: tuple[LeftOut, ...]
    examples: int
    retokenised: int = 0
    remarks: tuple[LeftOut, ...] = ()

    def receipt(self, *, steps: int) -> Receipt:
        """What receipt.json states."""
        return Receipt(
            examples=self.examples,
            used=self.examples - len(self.left_out),
            steps=steps,
            left_out=self.left_out,
            retokenised=self.retokenised,
            changed=self._remarked("changed"),
            cut=self._remarked("cut"),
            remarks=self.remarks,
        )

    def _remarked(self, reason: str) -> int:
        return len({remark.line for remark in self.remarks if remark.reason == reason})

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
    path: Path, *, encode: Callable[[Mapping[str, Any], str], EncodedLine[Encoded]]
) -> EncodedExamples[Encoded]:
    """Encode each line with `encode(values, id)`; an ExampleError puts the line on the receipt.

    An example without an id is called after its line. Raises TrainingError when the file is missing.
    """
    if not path.exists():
        raise TrainingError(f"{path} does not exist; a run directory holds config.json and examples.jsonl")
    items: list[Encoded] = []
    left_out: list[LeftOut] = []
    remarks: list[LeftOut] = []
    seen: set[str] = set()
    retokenised = 0
    for line, raw in _numbered_lines(path):
        example_id = None
        try:
            values = _parsed(raw)
            example_id = _identifier(values, line=line)
            if example_id in seen:
                raise ExampleError("duplicate id", f"an earlier line has the id {example_id} too")
            encoded = encode(values, example_id)
        except ExampleError as error:
            left_out.append(_entry(error, line=line, id=example_id))
            continue
        seen.add(example_id)
        items.extend(encoded.items)
        retokenised += encoded.from_text
        remarks.extend(_entry(remark, line=line, id=example_id) for remark in encoded.remarks)
    return EncodedExamples(
        items=tuple(items),
        left_out=tuple(left_out),
        examples=len(left_out) + len(seen),
        retokenised=retokenised,
        remarks=tuple(remarks),
    )


def _entry(about: ExampleError | Remark, *, line: int, id: str | None) -> LeftOut:
    # A detail may quote the example, and the example may hold what cannot be written as UTF-8.
    detail = about.detail.encode("utf-8", "replace").decode()
    return LeftOut(line=line, id=id, reason=about.reason, detail=detail)


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
    check_unicode(str(identifier), name="id")
    return str(identifier)
