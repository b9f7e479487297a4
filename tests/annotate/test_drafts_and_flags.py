"""Drafts, flags and skipped pairs that are taken back."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.errors import LabelRefused
from annotate.models import Draft, Flag, Lease, Pair, Preference, Skip, Study, User
from annotate.services.drafts import save_draft
from annotate.services.flags import flag_pair, take_skipped_pair_back
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import skip_pair
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_prompt,
    make_study,
    next_pair,
    undo,
)
from tests.support.people import client_of, judge_url, judgement, shown_pair

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")


@pytest.fixture
def client(ana: User) -> Client:
    return client_of(ana)


def url(name: str, study: Study, pair: Pair) -> str:
    return reverse(name, args=[study.slug, pair.pk])


def test_a_draft_is_kept_replaced_and_gone_when_empty(client: Client, study: Study, ana: User) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    for content in ({"rationale": "why", "secret": "x"}, {"rationale": "why not", "strength": 2}):
        assert (
            client.post(url("label-draft", study, pair), {"content": json.dumps(content)}).status_code == 204
        )
    assert Draft.objects.get().content == {"rationale": "why not", "strength": 2}
    assert client.post(url("label-draft", study, pair), {"content": "{}"}).status_code == 204
    assert not Draft.objects.exists()


@pytest.mark.parametrize("content", ["", "[1]", "nonsense", '"text"', "null"])
def test_a_draft_that_is_no_object_is_refused(client: Client, study: Study, ana: User, content: str) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    assert client.post(url("label-draft", study, pair), {"content": content}).status_code == 400


def test_a_draft_of_a_pair_that_is_not_held_or_too_long_is_refused(study: Study, ana: User) -> None:
    pair = make_pair(study)
    with pytest.raises(LabelRefused, match="not held by you"):
        save_draft(pair=pair, annotator=ana, content={"rationale": "why"})
    next_pair(study, ana)
    with pytest.raises(LabelRefused, match="60,001 characters"):
        save_draft(pair=pair, annotator=ana, content={"rationale": "x" * 60_001})


def test_a_draft_that_comes_after_its_label_is_refused_unless_it_is_of_a_change(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    content = {"content": json.dumps({"verdict": "right", "rationale": "why"})}
    assert client.post(url("label-draft", study, pair) + "?of=label", content).status_code == 409
    label(pair, ana)
    assert client.post(url("label-draft", study, pair), content).status_code == 409
    assert not Draft.objects.exists()
    assert client.post(url("label-draft", study, pair) + "?of=label", content).status_code == 204
    page = client.get(url("history-pair", study, pair)).content.decode()
    assert "data-draft=" in page
    stamp = Preference.objects.get().stamp
    client.post(url("history-pair", study, pair), {"verdict": "left", "rationale": "why", "stamp": stamp})
    assert Preference.objects.get().rationale == "why"
    assert not Draft.objects.exists()


def test_the_page_brings_the_draft_back_and_the_verdict_ends_it(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    save_draft(pair=pair, annotator=ana, content={"rationale": "it's <b>"})
    html = client.get(reverse("label", args=[study.slug])).content.decode()
    assert "data-draft=" in html
    assert "<b>" not in html.split("data-draft=")[1].split(">")[0]
    client.post(judge_url(study, shown_pair(html)), {**judgement(html), "had_draft": "1"})
    assert Preference.objects.exists()
    assert not Draft.objects.exists()


def test_a_flag_without_a_label_passes_on_the_pair(study: Study, ana: User) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    flag_pair(pair=pair, annotator=ana, reason=Flag.Reason.HARMFUL, note=" bad ")
    assert Flag.objects.get().note == "bad"
    assert Skip.objects.filter(pair=pair, annotator=ana).exists()
    assert not Lease.objects.exists()
    assert_slots_add_up(study)


def test_the_page_that_asks_for_a_reason_says_which_pair_it_is_about(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study, prompt=make_prompt(study, "Is <b>this</b> the one?"))
    next_pair(study, ana)
    html = client.get(url("label-flag", study, pair)).content.decode()
    assert "Is &lt;b&gt;this&lt;/b&gt; the one?" in html


def test_a_flag_on_a_labelled_pair_leaves_the_label(study: Study, ana: User) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    label(pair, ana)
    for reason in (Flag.Reason.OTHER, Flag.Reason.BROKEN):
        flag_pair(pair=pair, annotator=ana, reason=reason)
    assert Flag.objects.get().reason == "broken"
    assert Preference.objects.count() == 1
    assert not Skip.objects.exists()


def test_flags_are_taken_for_pairs_one_has_seen_and_until_they_are_dealt_with(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    answer = client.post(url("label-flag", study, pair), {"reason": "other"}, headers={"HX-Request": "true"})
    assert answer.status_code == 409
    next_pair(study, ana)
    for data in ({}, {"reason": "nonsense"}):
        assert (
            client.post(url("label-flag", study, pair), data, headers={"HX-Request": "true"}).status_code
            == 400
        )
    assert client.post(url("label-flag", study, pair), {"reason": "other"}).status_code == 302
    Flag.objects.update(resolved_at=timezone.now())
    with pytest.raises(LabelRefused, match="dealt with your flag"):
        flag_pair(pair=pair, annotator=ana, reason=Flag.Reason.BROKEN)


def test_undoing_a_flag_takes_flag_and_skip_back(study: Study, ana: User) -> None:
    pair = make_pair(study)
    next_pair(study, ana)
    flag_pair(pair=pair, annotator=ana, reason=Flag.Reason.BROKEN)
    assert undo(study, ana).pair == pair
    assert not Flag.objects.exists()
    assert not Skip.objects.exists()
    assert_slots_add_up(study)


def test_a_skipped_pair_comes_back_first_and_on_the_same_sides(study: Study, ana: User) -> None:
    make_pairs(study, 4)
    held = next_pair(study, ana)
    skip_pair(pair=held.pair, annotator=ana)
    ahead = next_pair(study, ana)
    next_pair(study, ana, beyond=ahead.pair.pk)
    back = take_skipped_pair_back(pair=held.pair, annotator=ana)
    assert back.left_side == held.left_side
    assert next_pair(study, ana).pair == held.pair
    assert Lease.objects.filter(annotator=ana).count() == 2
    assert_slots_add_up(study)


def test_a_skipped_pair_that_colleagues_took_or_that_froze_stays_away(study: Study, ana: User) -> None:
    taken, frozen = make_pair(study, batch=1), make_pair(study, batch=2)
    ben = make_annotator(study, "ben")
    for pair in (taken, frozen):
        skip_pair(pair=pair, annotator=ana)
    label(taken, ben)
    freeze_batch(study=study, batch=2)
    with pytest.raises(LabelRefused, match="Colleagues have taken"):
        take_skipped_pair_back(pair=taken, annotator=ana)
    with pytest.raises(LabelRefused, match="frozen"):
        take_skipped_pair_back(pair=frozen, annotator=ana)
    with pytest.raises(LabelRefused, match="not skipped"):
        take_skipped_pair_back(pair=taken, annotator=ben)
    assert Skip.objects.count() == 2
    assert_slots_add_up(study)
