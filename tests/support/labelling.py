"""Studies, people and pairs for tests, made through the product's own services."""

from __future__ import annotations

import hashlib
import uuid

from django.db.models import Count

from annotate.models import Pair, Preference, Prompt, Role, Side, Split, Study, User, Verdict
from annotate.prompt_lines import canonical_messages
from annotate.services.accounts import create_user
from annotate.services.pairs import add_pair, add_response
from annotate.services.preferences import record_preference
from annotate.services.queue import LeasedPair, lease_next_pair
from annotate.services.studies import add_member, create_study
from annotate.services.undo import undo_preference


def make_user(username: str, *, simulated_rule: str = "") -> User:
    return create_user(username=username, simulated_rule=simulated_rule)[0]


def make_study(*, name: str = "Kind answers", labels_per_pair: int = 1, lead: User | None = None) -> Study:
    return create_study(
        name=name,
        lead=lead or make_user(f"lead-of-{hashlib.sha256(name.encode()).hexdigest()[:6]}"),
        guidelines="Prefer the answer that **helps** more.",
        labels_per_pair=labels_per_pair,
    )


def make_annotator(study: Study, username: str = "ana") -> User:
    user = make_user(username)
    add_member(study=study, user=user, role=Role.ANNOTATOR, actor=None)
    return user


def make_prompt(
    study: Study,
    text: str = "Why is the sky blue?",
    *,
    split: Split = Split.TRAIN,
    messages: list[dict[str, str]] | None = None,
) -> Prompt:
    messages = messages or [{"role": "user", "content": text}]
    return Prompt.objects.create(
        study=study,
        messages=messages,
        split=split,
        content_hash=hashlib.sha256(canonical_messages(messages).encode()).hexdigest(),
        position=study.prompts.count(),
    )


def make_pair(
    study: Study,
    *,
    prompt: Prompt | None = None,
    texts: tuple[str, str] = ("A short answer.", "A rather longer answer."),
    batch: int = 1,
    priority: int = 0,
    purpose: Pair.Purpose = Pair.Purpose.TRAIN,
    was_cut: bool = False,
) -> Pair:
    prompt = prompt or make_prompt(study, f"Question number {study.prompts.count() + 1}?")
    return add_pair(
        prompt=prompt,
        response_a=add_response(prompt=prompt, text=texts[0], was_cut=False),
        response_b=add_response(prompt=prompt, text=texts[1], was_cut=was_cut),
        batch=batch,
        priority=priority,
        purpose=purpose,
    )


def make_pairs(study: Study, count: int) -> list[Pair]:
    return [make_pair(study) for _ in range(count)]


def next_pair(study: Study, annotator: User, *, beyond: int | None = None) -> LeasedPair:
    leased = lease_next_pair(study=study, annotator=annotator, beyond=beyond)
    assert leased is not None
    return leased


def label(
    pair: Pair, annotator: User, verdict: Verdict = Verdict.A, *, side: Side | None = Side.A
) -> Preference:
    return record_preference(
        pair=pair, annotator=annotator, verdict=verdict, client_id=uuid.uuid4(), shown_left=side
    )


def undo(study: Study, annotator: User, *, client_id: uuid.UUID | None = None) -> LeasedPair:
    """Undo what the annotator did last; return the pair that is shown then."""
    back = undo_preference(study=study, annotator=annotator, client_id=client_id or uuid.uuid4())
    assert back is not None
    return back


def assert_slots_add_up(study: Study) -> None:
    """Every pair's slots are its preferences plus its leases, and never more than it wants.

    Asked in one statement: a page that is open may have a pair leased at any moment.
    """
    rows = Count("preferences", distinct=True) + Count("leases", distinct=True)
    for pair in Pair.objects.filter(study=study).annotate(rows=rows):
        assert pair.slots_taken == pair.rows, f"pair {pair.pk}: {pair.slots_taken} slots, {pair.rows} rows"
        assert pair.slots_taken <= pair.labels_wanted
