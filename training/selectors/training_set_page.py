"""A training set before it is trained on: its counts, and one page of the pairs behind each of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from django.core.paginator import Page, Paginator

from annotate.models import AnnotatorProgress, Membership, Pair, Preference, Role, Study, User
from training.core.run.directory import DpoExample
from training.selectors.policy_examples import Judgement, in_words, judgements_by_pair, last_text
from training.selectors.training_set import Assembled, Edit
from training.services.training_set import edit_examples, pair_examples
from training.training_set.decide import EVEN, Outcome
from training.training_set.receipt import Line

PER_PAGE = 10
EDITS = "edits"


@dataclass(frozen=True)
class Text:
    """One of the two responses under its heading."""

    heading: str
    text: str


@dataclass(frozen=True)
class ShownPair:
    """A pair as a line of the list; `tags` say what it weighs, `votes` what was said of it by whom."""

    pair: Pair
    name: str
    prompt: str
    texts: tuple[Text, Text]
    tags: list[str]
    votes: list[Judgement]


@dataclass(frozen=True)
class Tab:
    """A line of the receipt; `key` opens the pairs behind it, empty where there is no list."""

    line: Line
    key: str
    is_open: bool


@dataclass(frozen=True)
class TrainingSetPage:
    tabs: list[Tab]
    rows: list[ShownPair]
    page: Page[int]
    showing: str


def people_of(study: Study, *, also: Collection[int] = ()) -> dict[int, str]:
    """Return whose labels count or may come to count in training sets, names by id: four queries.

    Members who can label, whoever has labelled and is no member any more, and the people of `also`, whom the
    rules name already.
    """
    members = Membership.objects.filter(study=study)
    out = set(members.filter(in_training_sets=False).values_list("user", flat=True))
    able = set(members.exclude(role=Role.VIEWER).values_list("user", flat=True))
    labelled = AnnotatorProgress.objects.filter(study=study, labels__gt=0).values_list("annotator", flat=True)
    wanted = ((able | set(labelled)) - out) | set(also)
    return {user.pk: user.display_name for user in User.objects.filter(pk__in=wanted).order_by("pk")}


def training_set_page(assembled: Assembled, *, show: str, page: str) -> TrainingSetPage:
    """Return the receipt's lines and a page of the pairs of one of them, texts of no others."""
    lines = assembled.receipt.lines()
    keys = {key_of(line) for line in lines} - {""}
    showing = show if show in keys else key_of(lines[0])
    rows, shown = (_edit_rows if showing == EDITS else _pair_rows)(assembled, showing=showing, page=page)
    return TrainingSetPage(
        tabs=[Tab(line, key_of(line), is_open=key_of(line) == showing) for line in lines],
        rows=rows,
        page=shown,
        showing=next(tab.name for tab in lines if key_of(tab) == showing),
    )


def key_of(line: Line) -> str:
    """Return how a line's pairs are called in an address; what nobody has judged has no list."""
    if line.name.startswith(EDITS):
        return EDITS
    if line.outcome is None or line.outcome == Outcome.UNLABELLED:
        return ""
    return line.outcome.name.lower()


def _pair_rows(assembled: Assembled, *, showing: str, page: str) -> tuple[list[ShownPair], Page[int]]:
    outcome = Outcome[showing.upper()]
    shown: Page[int] = Paginator(assembled.pairs_that_came_to(outcome), PER_PAGE).get_page(page)
    ids = list(shown.object_list)
    pairs = Pair.objects.select_related("prompt", "response_a", "response_b").in_bulk(ids)
    votes = judgements_by_pair(ids)
    if not outcome.is_example:
        return [_left_out_row(pairs[pk], votes=votes[pk]) for pk in ids], shown
    examples = pair_examples(assembled, only=ids)
    return [
        _example_row(example, pair=pairs[pk], votes=votes[pk])
        for pk, example in zip(ids, examples, strict=True)
    ], shown


def _edit_rows(assembled: Assembled, *, showing: str, page: str) -> tuple[list[ShownPair], Page[int]]:
    paged: Page[Edit] = Paginator(assembled.edits, PER_PAGE).get_page(page)
    edits: Sequence[Edit] = list(paged.object_list)
    pair_of = {edit.preference_id: edit.pair_id for edit in edits}
    pairs = Pair.objects.select_related("prompt", "response_a").in_bulk(list(set(pair_of.values())))
    votes = judgements_by_pair(pairs)
    rows = []
    for example in edit_examples(assembled, edits=edits):
        pair_id = pair_of[int(example.id.split("-")[1])]
        rows.append(_example_row(example, pair=pairs[pair_id], votes=votes[pair_id], is_edit=True))
    return rows, paged  # type: ignore[return-value]  # only its numbers are read


def _example_row(
    example: DpoExample, *, pair: Pair, votes: list[Preference], is_edit: bool = False
) -> ShownPair:
    tags = [f"round {pair.batch}"]
    tags += [f"weight {example.weight:g}"] if example.weight != 1 else []
    tags += [f"p {example.p:.2f}"] if example.p != 1 else []
    is_even = example.tie or example.p == EVEN
    texts = (last_text(list(example.chosen)), last_text(list(example.rejected)))
    if is_edit:
        headings = ("Edited", f"Response {'A' if texts[1] == pair.response_a.text else 'B'}")
    else:
        headings = ("Response A", "Response B") if is_even else ("Chosen", "Rejected")
    chosen_is_a = None if is_edit or is_even else texts[0] == pair.response_a.text
    return ShownPair(
        pair=pair,
        name=example.id,
        prompt=last_text(pair.prompt.messages),
        texts=(Text(headings[0], texts[0]), Text(headings[1], texts[1])),
        tags=tags,
        votes=judgements(votes, chosen_is_a=chosen_is_a),
    )


def judgements(votes: list[Preference], *, chosen_is_a: bool | None) -> list[Judgement]:
    """Return what each vote says: of chosen and rejected, or of A and B where neither was chosen."""
    return [
        Judgement(
            vote,
            vote.get_verdict_display() if chosen_is_a is None else in_words(vote, chosen_is_a=chosen_is_a),
        )
        for vote in votes
    ]


def _left_out_row(pair: Pair, *, votes: list[Preference]) -> ShownPair:
    return ShownPair(
        pair=pair,
        name=f"pair-{pair.pk}",
        prompt=last_text(pair.prompt.messages),
        texts=(Text("Response A", pair.response_a.text), Text("Response B", pair.response_b.text)),
        tags=[f"round {pair.batch}"],
        votes=judgements(votes, chosen_is_a=None),
    )
