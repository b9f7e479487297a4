"""Gold and practice pairs: templates with a known answer, made from a judged pair, by hand or from a file.

A template is in nobody's queue; `annotate.services.checks` gives each annotator a copy of it.
"""

import json
from collections.abc import Iterable

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from annotate.errors import CheckRefused, LineError, PromptFileError
from annotate.known_lines import KnownLine, known_line, parse_known_line
from annotate.models import KnownAnswer, Lease, Pair, Prompt, Response, Split, Study, User, Verdict
from annotate.prompt_lines import PromptLineError
from annotate.services.audit import record_audit
from annotate.services.checks import NO_BATCH, templates

CHECK_PURPOSES = (Pair.Purpose.PRACTICE, Pair.Purpose.GOLD)
MAX_LINES = 2_000
MAX_LINE_BYTES = 1_000_000
MAX_ERRORS_SHOWN = 20


def make_known_pair(
    *, pair: Pair, purpose: Pair.Purpose, verdict: Verdict, explanation: str, actor: User
) -> Pair:
    """Make a gold or practice template of a pair of the queue; the pair itself stays what it is.

    Raises CheckRefused when the pair is a check itself, or such a template of it exists already.
    """
    _check_purpose(purpose)
    if pair.is_check:
        raise CheckRefused(f"Pair {pair.pk} is a check itself; choose a pair of the ordinary queue.")
    with transaction.atomic():
        study = Study.objects.select_for_update(no_key=True).get(pk=pair.study_id)
        if templates(study=study, purpose=purpose).filter(original=pair).exists():
            raise CheckRefused(f"Pair {pair.pk} is a {purpose.label.lower()} pair already.")
        template = _template(
            study,
            prompt=pair.prompt,
            responses=(pair.response_a, pair.response_b),
            purpose=purpose,
            original=pair,
        )
        KnownAnswer.objects.create(pair=template, verdict=verdict, explanation=explanation.strip())
        _audit(template, actor=actor, action="added", source=pair.pk)
    return template


def add_known_pair(
    *,
    study: Study,
    purpose: Pair.Purpose,
    prompt: str,
    response_a: str,
    response_b: str,
    verdict: str,
    explanation: str,
    actor: User | None,
) -> Pair:
    """Make a template of texts typed by hand; raises CheckRefused with what is wrong with them."""
    _check_purpose(purpose)
    data = {"prompt": prompt, "response_a": response_a, "response_b": response_b}
    try:
        line = known_line({**data, "verdict": verdict, "explanation": explanation})
    except PromptLineError as error:
        raise CheckRefused(str(error)) from None
    with transaction.atomic():
        locked = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        template = _write(locked, line=line, purpose=purpose)
        _audit(template, actor=actor, action="added")
    return template


def import_known_pairs(
    *, study: Study, lines: Iterable[bytes], purpose: Pair.Purpose, actor: User | None = None
) -> int:
    """Add the pairs of a JSONL file, all or none; returns how many.

    A line is {"prompt" or "messages", "response_a", "response_b", "verdict", "explanation"}. Raises
    PromptFileError with the faulty lines.
    """
    _check_purpose(purpose)
    pairs = _parsed(lines)
    with transaction.atomic():
        locked = Study.objects.select_for_update(no_key=True).get(pk=study.pk)
        for line in pairs:
            _write(locked, line=line, purpose=purpose)
        details = {"pairs": len(pairs), "purpose": purpose.value}
        record_audit(study=study, actor=actor, action="checks.imported", details=details)
    return len(pairs)


def withdraw_known_pair(*, template: Pair, actor: User) -> None:
    """Give a template to nobody any more; labels on its copies stay, copies that nobody judged go."""
    with transaction.atomic():
        unjudged = Pair.objects.filter(original=template, preferences__isnull=True)
        unjudged = unjudged.filter(purpose=template.purpose, state=Pair.State.OPEN)
        Lease.objects.filter(pair__in=unjudged).delete()
        Pair.objects.filter(pk__in=list(unjudged.values_list("pk", flat=True))).update(
            state=Pair.State.WITHDRAWN, slots_taken=0
        )
        Pair.objects.filter(pk=template.pk).update(state=Pair.State.WITHDRAWN)
        _audit(template, actor=actor, action="withdrawn")


def restore_known_pair(*, template: Pair, actor: User) -> None:
    """Bring a withdrawn template back into use."""
    with transaction.atomic():
        Pair.objects.filter(pk=template.pk).update(state=Pair.State.OPEN)
        _audit(template, actor=actor, action="restored")


def _check_purpose(purpose: Pair.Purpose) -> None:
    if purpose not in CHECK_PURPOSES:
        raise CheckRefused(f"A check is a gold or a practice pair, not {purpose.label.lower()}.")


def _parsed(lines: Iterable[bytes]) -> list[KnownLine]:
    errors: list[LineError] = []
    pairs: list[KnownLine] = []
    number = count = 0
    for number, line in enumerate(lines, start=1):
        try:
            pair = _parse(line, number=number)
        except PromptLineError as error:
            count += 1
            errors.append(LineError(line=number, message=str(error)))
            if number > MAX_LINES:
                break
            continue
        if pair is not None:
            pairs.append(pair)
    if not count and not pairs:
        count = 1
        errors.append(LineError(line=max(number, 1), message="The file has no pairs; put one on each line."))
    if count:
        raise PromptFileError(errors=errors[:MAX_ERRORS_SHOWN], count=count)
    return pairs


def _parse(line: bytes, *, number: int) -> KnownLine | None:
    if number > MAX_LINES:
        raise PromptLineError(f"The file has more than {MAX_LINES:,} lines; split it.")
    if len(line) > MAX_LINE_BYTES:
        raise PromptLineError(f"The line has more than {MAX_LINE_BYTES:,} bytes; shorten the texts.")
    return parse_known_line(line)


def _write(study: Study, *, line: KnownLine, purpose: Pair.Purpose) -> Pair:
    prompt = _prompt(study, line=line)
    responses = (
        Response.objects.create(prompt=prompt, text=line.response_a),
        Response.objects.create(prompt=prompt, text=line.response_b),
    )
    template = _template(study, prompt=prompt, responses=responses, purpose=purpose, original=None)
    KnownAnswer.objects.create(pair=template, verdict=line.verdict, explanation=line.explanation)
    return template


def _prompt(study: Study, *, line: KnownLine) -> Prompt:
    """Return the study's prompt with these messages, or a new one that nothing is sampled for."""
    known = Prompt.objects.filter(study=study, content_hash=line.content_hash).first()
    if known is not None:
        return known
    last: int | None = Prompt.objects.filter(study=study).aggregate(last=Max("position"))["last"]
    return Prompt.objects.create(
        study=study,
        messages=json.loads(line.messages_json),
        split=Split.CHECK,
        content_hash=line.content_hash,
        position=0 if last is None else last + 1,
    )


def _template(
    study: Study,
    *,
    prompt: Prompt,
    responses: tuple[Response, Response],
    purpose: Pair.Purpose,
    original: Pair | None,
) -> Pair:
    """Create a template; templates are given out in the order in which they were made."""
    return Pair.objects.create(
        study=study,
        prompt=prompt,
        response_a=responses[0],
        response_b=responses[1],
        purpose=purpose,
        original=original,
        batch=NO_BATCH,
        labels_wanted=0,
        order_key=timezone.now().timestamp(),
    )


def _audit(template: Pair, *, actor: User | None, action: str, source: int | None = None) -> None:
    details = {"pair": template.pk, "purpose": template.purpose, "source": source}
    record_audit(study=template.study, actor=actor, action=f"check.{action}", details=details)
