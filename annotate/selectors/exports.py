"""Preferences in the formats that trainers read."""

import json
from collections.abc import Iterator
from typing import Any

from annotate.models import Preference, Response, Split, Study, Verdict

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
    return {
        "pair": preference.pair_id,
        "batch": preference.pair.batch,
        "prompt_id": preference.pair.prompt.external_id,
        "annotator": preference.annotator.username,
        "simulated_rule": preference.simulated_rule,
        "strength": preference.strength,
        "shown_left": preference.shown_left,
        "guidelines_version": preference.guidelines_version,
        "created_at": preference.created_at.isoformat(),
    }
