"""Prompts coming in from JSONL: checked line by line as a stream, then all written or none.

One line is one prompt: `{"messages": [{"role": …, "content": …}, …]}` ending with the user, or
`{"prompt": "text"}`, or `{"prompt": [messages]}`; optional `id`, `split` ("train" or "heldout") and `tags`.
Other keys are left out and named in the report. Without `split`, the content's hash decides, so the same
prompt lands on the same side everywhere.
"""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from django.db import transaction
from django.db.models import Max

from annotate.errors import LineError, PromptFileError
from annotate.models import Prompt, Split, Study, User
from annotate.prompt_lines import PromptLine, PromptLineError, parse_prompt_line, split_of_hash
from annotate.services.audit import record_audit

MAX_LINE_BYTES = 1_000_000
MAX_LINES = 200_000
MAX_ERRORS_SHOWN = 20
BATCH = 500


@dataclass(frozen=True)
class ImportReport:
    """What an import did: `created` = `train` + `heldout`; duplicates were there or earlier in the file."""

    created: int
    duplicates: int
    train: int
    heldout: int
    ignored_keys: tuple[str, ...] = ()


@dataclass
class _Check:
    """The running state of a pass over a file."""

    errors: list[LineError] = field(default_factory=list)
    error_count: int = 0
    ignored_keys: set[str] = field(default_factory=set)

    def add(self, line: int, message: str) -> None:
        self.error_count += 1
        if len(self.errors) < MAX_ERRORS_SHOWN:
            self.errors.append(LineError(line=line, message=message))


def read_lines(handle: IO[bytes]) -> Iterator[bytes]:
    """Yield lines without ever holding more of one than shows that it is too long."""
    while line := handle.readline(MAX_LINE_BYTES + 1):
        yield line
        while len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            line = handle.readline(MAX_LINE_BYTES + 1)


def import_prompts(
    *, study: Study, lines: Iterable[bytes], heldout_share: float, actor: User | None = None
) -> ImportReport:
    """Add the prompts of a JSONL file to a study, all or none.

    `heldout_share` in [0, 1) is the part of the lines without a `split` that is held out. Duplicates are
    counted and left as they are. Raises PromptFileError with the faulty lines, ValueError for a share out
    of range.
    """
    if not 0 <= heldout_share < 1:
        raise ValueError(f"heldout share = {heldout_share} must be at least 0 and below 1; 0.2 is usual")
    with tempfile.TemporaryFile("w+", encoding="utf-8") as checked:
        ignored_keys = _check_lines(lines, into=checked)
        checked.seek(0)
        with transaction.atomic():
            report = _write(study, checked=checked, heldout_share=heldout_share, ignored_keys=ignored_keys)
            details = {"created": report.created, "duplicates": report.duplicates, "heldout": report.heldout}
            record_audit(study=study, actor=actor, action="prompts.imported", details=details)
    return report


def _check_lines(lines: Iterable[bytes], *, into: IO[str]) -> tuple[str, ...]:
    """Write each good line in canonical form; raise when any is not. Returns the keys that were left out."""
    check = _Check()
    number = 0
    prompts = 0
    for number, line in enumerate(lines, start=1):
        if number > MAX_LINES:
            check.add(number, f"The file has more than {MAX_LINES:,} lines; split it.")
            break
        try:
            prompt = _parse(line)
        except PromptLineError as error:
            check.add(number, str(error))
            continue
        if prompt is not None:
            prompts += 1
            check.ignored_keys |= prompt.ignored_keys
            into.write(prompt.to_json() + "\n")
    if not check.error_count and not prompts:
        check.add(max(number, 1), "The file has no prompts; put one JSON object on each line.")
    if check.error_count:
        raise PromptFileError(errors=check.errors, count=check.error_count)
    return tuple(sorted(check.ignored_keys))


def _parse(line: bytes) -> PromptLine | None:
    if len(line) > MAX_LINE_BYTES:
        raise PromptLineError(f"The line has more than {MAX_LINE_BYTES:,} bytes; shorten the prompt.")
    return parse_prompt_line(line)


def _write(
    study: Study, *, checked: IO[str], heldout_share: float, ignored_keys: tuple[str, ...]
) -> ImportReport:
    Study.objects.select_for_update(no_key=True).get(pk=study.pk)
    known = set(Prompt.objects.filter(study=study).values_list("content_hash", flat=True))
    last: int | None = Prompt.objects.filter(study=study).aggregate(last=Max("position"))["last"]
    position = 0 if last is None else last + 1
    lines = duplicates = 0
    splits = {Split.TRAIN: 0, Split.HELDOUT: 0}
    while batch := [PromptLine.from_json(line) for line in islice(checked, BATCH)]:
        lines += len(batch)
        fresh: list[Prompt] = []
        for prompt in batch:
            if prompt.content_hash in known:
                duplicates += 1
                continue
            known.add(prompt.content_hash)
            split = prompt.split or split_of_hash(prompt.content_hash, heldout_share=heldout_share)
            splits[split] += 1
            fresh.append(_row(study, prompt=prompt, split=split, position=position + len(fresh)))
        Prompt.objects.bulk_create(fresh)
        position += len(fresh)
    return ImportReport(
        created=lines - duplicates,
        duplicates=duplicates,
        train=splits[Split.TRAIN],
        heldout=splits[Split.HELDOUT],
        ignored_keys=ignored_keys,
    )


def _row(study: Study, *, prompt: PromptLine, split: Split, position: int) -> Prompt:
    return Prompt(
        study=study,
        messages=json.loads(prompt.messages_json),
        split=split,
        tags=list(prompt.tags),
        external_id=prompt.external_id,
        content_hash=prompt.content_hash,
        position=position,
    )
