"""Preferences in the formats that trainers read."""

import json
from collections.abc import Iterator
from typing import Any

from annotate.models import Preference, Resolution, Response, Split, Study, Verdict

CHUNK = 500


def trl_lines(*, study: Study, metadata: bool = False) -> Iterator[str]:
    """Yield one JSON line per preference for a side, on train pairs of train prompts, oldest first.

    The format is TRL's conversational preference format: prompt, chosen and rejected are lists of messages.
    Ties and "both are bad" have no chosen side and are left out.
    """
    preferences = Preference.objects.filter(
        pair__study=study,
        pair__purpose="train",
        pair__prompt__split=Split.TRAIN,
        verdict__in=[Verdict.A, Verdict.B],
    )
    preferences = preferences.exclude(pair__state="withdrawn").order_by("pk")
    related = preferences.select_related("annotator", "pair__prompt", "pair__response_a", "pair__response_b")
    if metadata:
        related = related.select_related("edited_response", "pair__resolution")
        related = related.prefetch_related("pair__flags")
    for preference in related.iterator(chunk_size=CHUNK):
        record = _record(preference)
        if metadata:
            record["metadata"] = _metadata(preference)
        yield json.dumps(record, ensure_ascii=False) + "\n"


def _record(preference: Preference) -> dict[str, Any]:
    pair = preference.pair
    chosen, rejected = pair.response_a, pair.response_b
    if preference.verdict == Verdict.B:
        chosen, rejected = rejected, chosen
    return {"prompt": pair.prompt.messages, "chosen": _reply(chosen), "rejected": _reply(rejected)}


def _reply(response: Response) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": response.text}]


def _metadata(preference: Preference) -> dict[str, Any]:
    edited = preference.edited_response
    return {
        "pair": preference.pair_id,
        "batch": preference.pair.batch,
        "prompt_id": preference.pair.prompt.external_id,
        "annotator": preference.annotator.username,
        "simulated_rule": preference.simulated_rule,
        "purpose": preference.pair.purpose,
        "verdict": preference.verdict,
        "strength": preference.strength,
        "rationale": preference.rationale,
        "edited_side": preference.edited_side if edited else "",
        "edited_text": edited.text if edited else "",
        "flags": _flags(preference),
        "decision": _decision(preference),
        "shown_left": preference.shown_left,
        "duration_ms": preference.duration_ms,
        "guidelines_version": preference.guidelines_version,
        "created_at": preference.created_at.isoformat(),
    }


def _flags(preference: Preference) -> list[dict[str, str]]:
    """What this annotator flagged the pair for."""
    return [
        {"reason": flag.reason, "note": flag.note}
        for flag in preference.pair.flags.all()
        if flag.annotator_id == preference.annotator_id
    ]


def _decision(preference: Preference) -> str:
    """What a lead decided on the pair: a verdict, "left_out", or "" where nobody did."""
    resolution: Resolution | None = getattr(preference.pair, "resolution", None)
    if resolution is None:
        return ""
    return "left_out" if resolution.left_out else resolution.verdict
