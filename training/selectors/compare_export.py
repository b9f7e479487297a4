"""The filtered comparison as files: a prompt a line as JSON, or a response a line as CSV."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from annotate.models import Prompt, Study
from training.models import SampledResponse
from training.selectors.compare_answers import answer_of, own_scores
from training.selectors.compare_order import PromptList
from training.selectors.compare_query import Columns
from training.selectors.compare_verdicts import NO_VOTES
from training.selectors.json_length import JsonLength

BATCH = 100
# A spreadsheet takes a cell that begins so for a formula; an apostrophe in front keeps it text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
CSV_COLUMNS = (
    *("prompt", "external_id", "tags", "messages", "policy", "served_name", "adapter_sha256", "sample"),
    *("response", "words", "tokens", "finish_reason", "log_ratio", "implicit_reward", "seed", "settings"),
    *("sampled_at", "changed_from", "changed_to", "changed_share", "votes_from", "votes_to", "votes_level"),
)

Record = dict[str, Any]


def export_records(study: Study, *, listed: PromptList, columns: Columns) -> Iterator[Record]:
    """Yield a record per prompt in the order of the page, with every sample of the shown policies."""
    for start in range(0, len(listed.prompts), BATCH):
        batch = listed.prompts[start : start + BATCH]
        prompts = Prompt.objects.in_bulk(batch)
        responses = response_records(batch, columns=columns, beta=study.recipe.beta)
        for pk in batch:
            yield prompt_record(prompts[pk], listed=listed, columns=columns) | {"responses": responses[pk]}


def prompt_record(prompt: Prompt, *, listed: PromptList, columns: Columns) -> Record:
    change, votes = listed.changes.get(prompt.pk), listed.votes.get(prompt.pk, NO_VOTES)
    before, after = columns.compared or (None, None)
    return {
        "prompt": prompt.pk,
        "external_id": prompt.external_id,
        "tags": prompt.tags,
        "messages": prompt.messages,
        "compared": {
            "from": before.number if before else None,
            "to": after.number if after else None,
            "changed_share": change.share if change else None,
            "votes_from": votes.before,
            "votes_to": votes.after,
            "votes_level": votes.level,
        },
    }


def response_records(prompts: list[int], *, columns: Columns, beta: float) -> dict[int, list[Record]]:
    """Return the records of these prompts' responses by prompt id, in the order of columns and samples."""
    sampled = (
        SampledResponse.objects.filter(prompt__in=prompts, policy__in=columns.policies, round=None)
        .select_related("response", "policy__run")
        .defer("prompt_token_ids", "token_ids", "logprobs")
        .annotate(tokens=JsonLength("token_ids"))
        .order_by("policy__number", "slot")
    )
    found = list(sampled)
    scores = own_scores(found)
    records: dict[int, list[Record]] = defaultdict(list)
    for item in found:
        answer = answer_of(item, policy=item.policy, score=scores.get(item.pk), beta=beta)
        records[item.prompt_id].append(
            {
                "policy": item.policy.number,
                "served_name": item.policy.served_name,
                "adapter_sha256": item.policy.adapter_sha256,
                "sample": item.slot + 1,
                "response": answer.text,
                "words": answer.words,
                "tokens": answer.tokens,
                "finish_reason": answer.finish_reason,
                "log_ratio": answer.log_ratio,
                "implicit_reward": answer.reward,
                "seed": item.seed,
                "settings": item.settings,
                "sampled_at": item.created_at.isoformat(),
            }
        )
    return records


def json_lines(records: Iterator[Record]) -> Iterator[str]:
    for record in records:
        yield json.dumps(record, ensure_ascii=False) + "\n"


class Echo:
    """A file that hands back what is written to it."""

    def write(self, line: str) -> str:
        return line


def csv_lines(records: Iterator[Record]) -> Iterator[str]:
    """Yield a header and a line per response; cells that a spreadsheet would run are made text."""
    writer = csv.writer(Echo())
    yield writer.writerow(CSV_COLUMNS)
    for record in records:
        compared = record["compared"]
        shared = record | compared | {"changed_from": compared["from"], "changed_to": compared["to"]}
        for response in record["responses"]:
            row = shared | response
            yield writer.writerow([cell(row[name]) for name in CSV_COLUMNS])


def cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False)
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value
