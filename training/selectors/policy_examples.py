"""What a policy was trained on, example by example, down to who judged."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from django.core.paginator import Page, Paginator

from annotate.models import Pair, Preference, Verdict
from training.models import Run
from training.selectors.contradictions import pairs_of_examples
from training.selectors.metrics import run_directory

PER_PAGE = 20
EXAMPLES_FILE = "examples.jsonl"


@dataclass(frozen=True)
class Judgement:
    """One person's verdict on the pair of an example, in terms of what was chosen."""

    preference: Preference
    said: str


@dataclass(frozen=True)
class ExampleRow:
    """One line of examples.jsonl with the judgements behind it; `pair` is None when it has been deleted."""

    id: str
    prompt: str
    chosen: str
    rejected: str
    weight: float
    p: float
    tie: bool
    edited: bool
    pair: Pair | None
    judgements: list[Judgement]


@dataclass(frozen=True)
class ExamplesPage:
    rows: list[ExampleRow]
    page: Page[int]


def policy_examples(run: Run, *, page: int) -> ExamplesPage:
    """Return one page of the run's examples as frozen: three queries at most. Raises FileNotFoundError."""
    path = run_directory(run) / EXAMPLES_FILE
    with path.open("rb") as lines:
        shown = Paginator(range(sum(1 for _ in lines)), PER_PAGE).get_page(page)
    start = (shown.number - 1) * PER_PAGE
    with path.open("rb") as lines:
        examples = [json.loads(line) for line in islice(lines, start, start + PER_PAGE)]
    pairs = Pair.objects.filter(study_id=run.round.study_id).select_related("prompt", "response_a")
    pair_ids = pairs_of_examples(str(example.get("id", "")) for example in examples)
    found = pairs.in_bulk(set(pair_ids.values()))
    votes = judgements_by_pair(found.keys())
    rows = [
        example_row(example, pair=found.get(pair_ids.get(str(example.get("id", "")), 0)), votes=votes)
        for example in examples
    ]
    return ExamplesPage(rows=rows, page=shown)


def judgements_by_pair(pairs: Iterable[int]) -> dict[int, list[Preference]]:
    votes: dict[int, list[Preference]] = {pair: [] for pair in pairs}
    rows = Preference.objects.filter(pair__in=list(votes)).select_related("annotator").order_by("pk")
    for vote in rows:
        votes[vote.pair_id].append(vote)
    return votes


def example_row(
    example: dict[str, Any], *, pair: Pair | None, votes: dict[int, list[Preference]]
) -> ExampleRow:
    chosen, rejected = last_text(example["chosen"]), last_text(example["rejected"])
    judged = votes.get(pair.pk, []) if pair else []
    chosen_is_a = pair is not None and pair.response_a.text == chosen
    edited = str(example.get("id", "")).startswith("edit-")
    return ExampleRow(
        id=str(example.get("id", "")),
        prompt=last_text(example["prompt"]),
        chosen=chosen,
        rejected=rejected,
        weight=float(example.get("weight", 1.0)),
        p=float(example.get("p", 1.0)),
        tie=bool(example.get("tie")),
        edited=edited,
        pair=pair,
        judgements=[
            Judgement(vote, said=of_the_pair(vote) if edited else in_words(vote, chosen_is_a=chosen_is_a))
            for vote in judged
        ],
    )


def of_the_pair(vote: Preference) -> str:
    """Return what a verdict says where neither of the pair's responses was chosen, but an edit."""
    return f"of the pair as it was sampled: {vote.get_verdict_display()}"


def in_words(vote: Preference, *, chosen_is_a: bool) -> str:
    """Return what a verdict says of the example."""
    if vote.verdict == Verdict.TIE:
        return "a tie"
    if vote.verdict == Verdict.BOTH_BAD:
        return "both are bad"
    return "the chosen one is better" if (vote.verdict == Verdict.A) == chosen_is_a else "the other is better"


def last_text(messages: list[dict[str, Any]]) -> str:
    return str(messages[-1]["content"]) if messages else ""
