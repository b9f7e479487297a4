"""The people page, pausing and leaving out, the state of the study, practice on the screen, versions."""

from __future__ import annotations

import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import (
    AuditEntry,
    GuidelinesVersion,
    Lease,
    Membership,
    Pair,
    Preference,
    Role,
    Study,
    User,
)
from annotate.services.guidelines import update_guidelines
from annotate.services.queue import lease_next_pair
from tests.annotate.check_world import configure, make_known
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    next_pair,
)
from tests.support.people import client_of, judge_url, judgement, member_client, shown_pair

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return configure(make_study(), practice_pairs=0, repeat_share=0.0)


@pytest.fixture
def lead_user(study: Study) -> User:
    return User.objects.get(memberships__study=study, memberships__role=Role.LEAD)


@pytest.fixture
def lead(lead_user: User) -> Client:
    return client_of(lead_user)


def post(client: Client, study: Study, name: str, *arguments: int, **data: str) -> str:
    url = reverse(name, args=[study.slug, *arguments])
    return client.post(url, data, follow=True).content.decode()


def test_the_page_names_everybody_with_what_they_do_and_hold(study: Study, lead: Client) -> None:
    make_pairs(study, 3)
    ana = make_annotator(study, "ana")
    Preference.objects.filter(pk=label(next_pair(study, ana).pair, ana).pk).update(duration_ms=42_000)
    next_pair(study, ana)
    html = lead.get(reverse("people", args=[study.slug])).content.decode()
    assert "ana" in html
    assert "42\N{NO-BREAK SPACE}s" in html
    assert "Pairs held now" in html
    assert "Hand over" in html


def test_the_page_asks_as_often_for_many_people_as_for_few(study: Study, lead: Client) -> None:
    counts = []
    for number in range(2):
        for place in range(1 + 5 * number):
            ana = make_annotator(study, f"ana-{number}-{place}")
            label(make_pair(study), ana)
            make_pair(study)
            next_pair(study, ana)
        with CaptureQueriesContext(connection) as queries:
            lead.get(reverse("people", args=[study.slug]))
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_viewers_see_the_people_and_no_button(study: Study) -> None:
    make_annotator(study, "ana")
    html = member_client(study, Role.VIEWER).get(reverse("people", args=[study.slug])).content.decode()
    assert "ana" in html
    assert "<button" not in html.partition("<main")[2]


def test_a_paused_annotator_gets_no_pairs_until_resumed(study: Study, lead: Client) -> None:
    make_pairs(study, 2)
    ana = make_annotator(study, "ana")
    next_pair(study, ana)
    member = Membership.objects.get(user=ana)
    html = post(lead, study, "member-pause", member.pk, on="1")
    assert "1 held pairs went back" in html
    assert not Lease.objects.exists()
    assert lease_next_pair(study=study, annotator=ana) is None
    post(lead, study, "member-pause", member.pk, on="0")
    assert lease_next_pair(study=study, annotator=ana) is not None
    assert_slots_add_up(study)
    actions = AuditEntry.objects.filter(action__startswith="member.").values_list("action", flat=True)
    assert {"member.paused", "member.resumed"} <= set(actions)


def test_somebody_is_left_out_of_training_sets_and_back_in(study: Study, lead: Client) -> None:
    member = Membership.objects.get(user=make_annotator(study, "ana"))
    post(lead, study, "member-training", member.pk, on="0")
    member.refresh_from_db()
    assert not member.in_training_sets
    post(lead, study, "member-training", member.pk, on="1")
    member.refresh_from_db()
    assert member.in_training_sets
    assert AuditEntry.objects.filter(action__in=["member.left_out", "member.used_again"]).count() == 2


@pytest.mark.parametrize("state", ["paused", "closed"])
def test_a_study_is_paused_or_closed_and_goes_on_where_it_was(study: Study, lead: Client, state: str) -> None:
    make_pairs(study, 1)
    ana = make_annotator(study, "ana")
    post(lead, study, "study-state", state=state)
    study.refresh_from_db()
    assert lease_next_pair(study=study, annotator=ana) is None
    html = post(lead, study, "study-state", state="active")
    assert "The study is open" in html
    assert lease_next_pair(study=Study.objects.get(pk=study.pk), annotator=ana) is not None
    post(lead, study, "study-state", state="ruined")
    study.refresh_from_db()
    assert study.state == Study.State.ACTIVE


def test_practice_answers_with_feedback_in_the_page_and_without_javascript(study: Study) -> None:
    study = configure(study, practice_pairs=1)
    make_known(study, Pair.Purpose.PRACTICE)
    make_pairs(study, 2)
    ana = client_of(make_annotator(study, "ana"))
    label_url = reverse("label", args=[study.slug])
    html = ana.get(label_url).content.decode()
    pair = shown_pair(html)
    answer = ana.post(judge_url(study, pair), judgement(html, "tie"), headers={"HX-Request": "true"})
    panel = answer.content.decode()
    assert "data-feedback" in panel
    assert "Because of reason <strong>1</strong>." in panel
    assert "You said: Tie" in panel
    plain = ana.post(judge_url(study, pair), judgement(html, "tie"), follow=True)
    assert plain.redirect_chain == [(reverse("practice-feedback", args=[study.slug, pair]), 302)]
    assert "Because of reason" in plain.content.decode()
    assert shown_pair(ana.get(label_url).content.decode()) != pair
    again = post(ana, study, "practice-again")
    assert 'data-practice="1"' in again


def test_gold_pairs_and_repeats_look_like_every_other_pair(study: Study) -> None:
    study = configure(study, gold_share=0.5)
    for number in range(4):
        make_known(study, Pair.Purpose.GOLD, number=number)
    make_pairs(study, 12)
    user = make_annotator(study, "ana")
    ana = client_of(user)
    shapes = set()
    for _ in range(12):
        html = ana.get(reverse("label", args=[study.slug])).content.decode()
        stage = html.partition('id="stage"')[2].partition("</article>")[0]
        shapes.add(re.sub(r'value="[^"]*"|>[^<]+<|\d+', "", stage))
        answer = ana.post(judge_url(study, shown_pair(html)), judgement(html), headers={"HX-Request": "true"})
        assert "gold" not in answer.content.decode().lower()
        assert "data-feedback" not in answer.content.decode()
    assert Preference.objects.filter(annotator=user, pair__purpose=Pair.Purpose.GOLD).exists()
    assert len(shapes) == 1


def test_every_published_version_is_kept_and_two_are_compared(study: Study, lead: Client) -> None:
    lead_user = User.objects.get(memberships__study=study, memberships__role=Role.LEAD)
    label(make_pair(study), make_annotator(study, "ana"))
    update_guidelines(study=study, text="Prefer the answer that **harms** less.", actor=lead_user, based_on=1)
    kept = GuidelinesVersion.objects.filter(study=study)
    assert [version.number for version in kept] == [1, 2]
    html = lead.get(reverse("guidelines-versions", args=[study.slug])).content.decode()
    assert "<del>**helps** more.</del>" in html
    assert "<ins>**harms** less.</ins>" in html
    swapped = lead.get(reverse("guidelines-versions", args=[study.slug]), {"before": "2", "after": "1"})
    assert "<ins>**helps** more.</ins>" in swapped.content.decode()


def test_a_study_with_one_version_has_nothing_to_compare(study: Study, lead: Client) -> None:
    html = lead.get(reverse("guidelines-versions", args=[study.slug]), {"after": "7"}).content.decode()
    assert "There is one version" in html


def test_checks_are_added_by_hand_and_from_a_file_and_withdrawn(study: Study, lead: Client) -> None:
    data = {
        "purpose": "practice",
        "prompt": "Name a fruit.",
        "response_a": "Pear",
        "response_b": "Stone",
        "verdict": "a",
        "explanation": "A stone is none.",
    }
    assert "Name a fruit." in post(lead, study, "check-add", **data)
    assert "are the same" in post(lead, study, "check-add", **{**data, "response_b": "Pear"})
    url = reverse("check-import", args=[study.slug])
    line = b'{"prompt": "Two?", "response_a": "2", "response_b": "3", "verdict": "a"}\n'
    good = {"purpose": "gold", "file": SimpleUploadedFile("gold.jsonl", line * 1)}
    assert "1 gold pairs were added." in lead.post(url, good, follow=True).content.decode()
    bad = {"purpose": "gold", "file": SimpleUploadedFile("gold.jsonl", line + b"[]\n")}
    html = lead.post(url, bad).content.decode()
    assert "line 2" in html
    assert "each line must be an object" in html
    templates = Pair.objects.filter(known_answer__isnull=False)
    assert templates.count() == 2
    gold = templates.get(purpose=Pair.Purpose.GOLD)
    assert "Use again" in post(lead, study, "check-use", gold.pk, on="0")
    gold.refresh_from_db()
    assert gold.state == Pair.State.WITHDRAWN
    post(lead, study, "check-use", gold.pk, on="1")
    gold.refresh_from_db()
    assert gold.state == Pair.State.OPEN
