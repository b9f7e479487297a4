"""Which held-out prompts the comparison shows, and in what order: from what is kept, never from all texts."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import QuerySet

from annotate.models import Prompt, Split, Study
from training.models import ResponseChange
from training.selectors.compare_query import Columns, CompareQuery
from training.selectors.compare_texts import texts_of
from training.selectors.compare_verdicts import NO_VOTES, Votes, votes_by_prompt


@dataclass(frozen=True)
class Change:
    """How far the second compared response is from the first: share of words, and both lengths in words."""

    share: float
    words_before: int
    words_after: int

    @property
    def growth(self) -> int:
        return self.words_after - self.words_before


@dataclass(frozen=True)
class PromptList:
    """The held-out prompts that a query asks for, in its order, with what orders them."""

    heldout: int
    tagged: int
    tags: list[str]
    prompts: list[int]
    changes: dict[int, Change]
    votes: dict[int, Votes]

    def place(self, prompt: int) -> int | None:
        """Return the prompt's place in the order, counted from 1; None where it is absent."""
        return self.prompts.index(prompt) + 1 if prompt in self.prompts else None

    def around(self, prompt: int) -> tuple[int | None, int | None]:
        """Return the prompts before and after this one; None at the ends and where it is absent."""
        if prompt not in self.prompts:
            return None, None
        place = self.prompts.index(prompt)
        before, after = self.prompts[:place], self.prompts[place + 1 :]
        return (before[-1] if before else None), (after[0] if after else None)


def prompt_list(study: Study, *, columns: Columns, query: CompareQuery) -> PromptList:
    """Return the prompts that the query asks for: three queries, and two to five more when it searches."""
    spine = list(heldout_prompts(study).values_list("pk", "tags"))
    changes = changes_between(columns, slot=query.slot)
    votes = votes_by_prompt(study, columns=columns)
    tagged = [pk for pk, tags in spine if not query.tag or query.tag in tags]
    found = [
        pk
        for pk in tagged
        if votes.get(pk, NO_VOTES).are(query.verdict) and is_as_long(changes.get(pk), query=query)
    ]
    if query.text.strip():
        mentioning = prompts_mentioning(study, columns=columns, query=query)
        found = [pk for pk in found if pk in mentioning]
    return PromptList(
        heldout=len(spine),
        tagged=len(tagged),
        tags=sorted({tag for _, tags in spine for tag in tags}),
        prompts=in_order(found, changes=changes, votes=votes, order=query.order),
        changes=changes,
        votes=votes,
    )


def heldout_prompts(study: Study) -> QuerySet[Prompt]:
    return study.prompts.filter(split=Split.HELDOUT).order_by("position", "pk")


def heldout_tags(study: Study) -> list[str]:
    """Return every tag of a held-out prompt, sorted."""
    return sorted({tag for tags in heldout_prompts(study).values_list("tags", flat=True) for tag in tags})


def changes_between(columns: Columns, *, slot: int) -> dict[int, Change]:
    """Return the kept changes from the first compared policy to the second by prompt id: one query."""
    if columns.compared is None:
        return {}
    before, after = columns.compared
    turned = before.number > after.number
    earlier, later = (after, before) if turned else (before, after)
    rows = ResponseChange.objects.filter(earlier=earlier, later=later, slot=slot).order_by()
    return {
        prompt: Change(share, *((second, first) if turned else (first, second)))
        for prompt, share, first, second in rows.values_list(
            "prompt_id", "share", "earlier_words", "later_words"
        )
    }


def is_as_long(change: Change | None, *, query: CompareQuery) -> bool:
    """Return whether the second compared response has as many words as the query asks for."""
    if query.least is None and query.most is None:
        return True
    if change is None:
        return False
    return (query.least or 0) <= change.words_after and (
        query.most is None or change.words_after <= query.most
    )


def prompts_mentioning(study: Study, *, columns: Columns, query: CompareQuery) -> set[int]:
    """Return the prompts whose chat, id or shown responses contain the text, whatever its case.

    Looked for here rather than by the database: SQLite knows no case beyond ASCII and keeps chats escaped.
    """
    sought = query.text.strip().casefold()
    found = {
        pk
        for pk, external_id, messages in heldout_prompts(study).values_list("pk", "external_id", "messages")
        if sought in external_id.casefold()
        or any(sought in str(turn["content"]).casefold() for turn in messages)
    }
    for policy in columns.policies:
        texts = texts_of(policy, slot=query.slot)
        found |= {prompt for prompt, text in texts.items() if sought in text.casefold()}
    return found


def in_order(
    prompts: list[int], *, changes: dict[int, Change], votes: dict[int, Votes], order: str
) -> list[int]:
    """Return the prompts in one of the orders of `compare_query.ORDERS`; equals stay in import order."""

    def change(prompt: int) -> float:
        return -changes[prompt].share if prompt in changes else 1.0

    def growth(prompt: int) -> float:
        return -changes[prompt].growth if prompt in changes else float("inf")

    def balance(prompt: int) -> tuple[bool, float, int]:
        seen = votes.get(prompt, NO_VOTES)
        return seen.total == 0, seen.balance if order == "worse" else -seen.balance, -seen.total

    match order:
        case "changed":
            return sorted(prompts, key=change)
        case "grown":
            return sorted(prompts, key=growth)
        case "worse" | "better":
            return sorted(prompts, key=balance)
        case _:
            return prompts
