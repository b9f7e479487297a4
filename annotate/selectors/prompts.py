"""Prompts as the explorer lists them."""

import json
from dataclasses import dataclass
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import Count, Q
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from annotate.markdown import render_markdown
from annotate.models import Pair, Preference, Prompt, Split, Study

PAGE_SIZE = 50


@dataclass(frozen=True)
class PromptFilter:
    """What the list is narrowed to; an unknown split is no filter."""

    text: str = ""
    split: str = ""

    @property
    def query(self) -> str:
        return urlencode(
            {key: value for key, value in {"q": self.text, "split": self.split}.items() if value}
        )


@dataclass(frozen=True)
class PromptCounts:
    train: int
    heldout: int

    @property
    def total(self) -> int:
        return self.train + self.heldout


@dataclass(frozen=True)
class ListedResponse:
    """A response with the labels its pairs got, simulated ones told apart."""

    number: int
    html: SafeString
    words: int
    was_cut: bool
    preferred: int
    passed_over: int
    simulated_rules: tuple[str, ...]


def prompt_counts(study: Study) -> PromptCounts:
    counts = dict(Prompt.objects.filter(study=study).order_by().values_list("split").annotate(n=Count("pk")))
    return PromptCounts(train=counts.get(Split.TRAIN, 0), heldout=counts.get(Split.HELDOUT, 0))


def prompt_page(study: Study, *, wanted: PromptFilter, number: str) -> Page[Any]:
    """Return one page of the prompts, in the order of import, with `response_count`."""
    prompts = (
        Prompt.objects.filter(study=study).annotate(response_count=Count("responses")).order_by("position")
    )
    if wanted.split in Split.values:
        prompts = prompts.filter(split=wanted.split)
    if wanted.text:
        prompts = prompts.filter(_matches(wanted.text))
    return Paginator(prompts, PAGE_SIZE).get_page(number)


def shown_responses(prompt: Prompt) -> list[ListedResponse]:
    """Return a prompt's responses, oldest first, with what was said of each."""
    votes = list(
        Preference.objects.filter(
            pair__prompt=prompt,
            pair__purpose__in=[Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE],
            verdict__in=["a", "b"],
        ).values_list("verdict", "pair__response_a", "pair__response_b", "simulated_rule")
    )
    listed = []
    for number, response in enumerate(prompt.responses.order_by("pk"), start=1):
        won = [rule for verdict, a, b, rule in votes if response.pk == (a if verdict == "a" else b)]
        lost = [rule for verdict, a, b, rule in votes if response.pk == (b if verdict == "a" else a)]
        listed.append(
            ListedResponse(
                number=number,
                html=render_markdown(response.text),
                words=len(response.text.split()),
                was_cut=response.was_cut,
                preferred=len(won),
                passed_over=len(lost),
                simulated_rules=tuple(sorted({rule for rule in won + lost if rule})),
            )
        )
    return listed


def _matches(text: str) -> Q:
    """Match JSON as PostgreSQL keeps it, and as SQLite does, with escapes for what is not ASCII."""
    as_stored = json.dumps(text, ensure_ascii=False)[1:-1]
    escaped = json.dumps(text)[1:-1]
    by_id = Q(external_id__icontains=text)
    return by_id | Q(messages__icontains=as_stored) | Q(messages__icontains=escaped)
