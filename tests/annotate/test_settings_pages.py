"""Settings, guidelines and members: each form works, refuses, and keeps what was typed."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth import authenticate
from django.test import Client, RequestFactory
from django.urls import reverse

from annotate.models import AuditEntry, Lease, Membership, Pair, Preference, Role, Study, User
from annotate.services.checks import copy_for
from annotate.services.gold import add_known_pair
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    make_user,
    next_pair,
)
from tests.support.people import client_of, member_client, outsider_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def lead_user(study: Study) -> User:
    return User.objects.get(memberships__study=study, memberships__role=Role.LEAD)


@pytest.fixture
def lead(lead_user: User) -> Client:
    return client_of(lead_user)


SETTINGS = {
    "name": "Kind answers",
    "state": "active",
    "labels_per_pair": "1",
    "lease_minutes": "15",
    "allow_tie": "on",
    "allow_both_bad": "on",
    "allow_edit": "on",
    "practice_pairs": "3",
    "gold_percent": "0",
    "repeat_percent": "3",
}


def save(client: Client, study: Study, **changes: str):  # type: ignore[no-untyped-def]
    data = {key: value for key, value in {**SETTINGS, **changes}.items() if value != "off"}
    return client.post(reverse("study-settings", args=[study.slug]), data)


def test_settings_are_saved_and_audited(lead: Client, study: Study) -> None:
    response = save(lead, study, name="Kinder answers", state="paused", lease_minutes="5", allow_tie="off")
    assert response.status_code == 302
    slug = study.slug
    study.refresh_from_db()
    assert (study.name, study.slug, study.state) == ("Kinder answers", slug, "paused")
    assert (study.lease_seconds, study.allow_tie, study.allow_both_bad) == (300, False, True)
    entry = AuditEntry.objects.get(action="study.changed")
    assert entry.details == {
        "name": "Kinder answers",
        "state": "paused",
        "lease_seconds": 300,
        "allow_tie": False,
    }


def test_saving_without_a_change_writes_nothing(lead: Client, study: Study) -> None:
    save(lead, study)
    assert not AuditEntry.objects.filter(action="study.changed").exists()


def test_a_new_overlap_holds_for_open_pairs_and_takes_nobodys_label_away(lead: Client, study: Study) -> None:
    labelled, untouched = make_pairs(study, 2)
    save(lead, study, labels_per_pair="3")
    label(labelled, make_annotator(study, "ana"))
    label(labelled, make_annotator(study, "ben"))
    save(lead, study, labels_per_pair="1")
    labelled.refresh_from_db()
    untouched.refresh_from_db()
    assert (labelled.labels_wanted, untouched.labels_wanted) == (2, 1)
    assert_slots_add_up(study)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 121},
        {"state": "x"},
        {"labels_per_pair": "0"},
        {"labels_per_pair": "21"},
        {"lease_minutes": "0"},
        {"practice_pairs": "-1"},
        {"gold_percent": "51"},
        {"repeat_percent": "x"},
    ],
)
def test_settings_that_make_no_sense_are_refused_at_their_field(
    lead: Client, study: Study, change: dict[str, str]
) -> None:
    response = save(lead, study, **change)
    assert response.status_code == 400
    assert 'class="errorlist"' in response.content.decode()
    assert not AuditEntry.objects.filter(action="study.changed").exists()


def test_checks_and_what_annotators_may_do_are_settings(lead: Client, study: Study) -> None:
    changes = {"practice_pairs": "2", "gold_percent": "5", "repeat_percent": "2.5", "ask_strength": "on"}
    save(lead, study, **changes, allow_edit="off")
    study.refresh_from_db()
    assert (study.practice_pairs, study.gold_share, study.repeat_share) == (2, 0.05, 0.025)
    assert (study.ask_strength, study.allow_edit) == (True, False)


def test_a_new_overlap_leaves_gold_pairs_and_everybodys_own_copies_alone(lead: Client, study: Study) -> None:
    gold = add_known_pair(
        study=study,
        purpose=Pair.Purpose.GOLD,
        prompt="Name a fruit.",
        response_a="Pear",
        response_b="Stone",
        verdict="a",
        explanation="",
        actor=None,
    )
    copy = copy_for(make_annotator(study), template=gold, purpose=Pair.Purpose.GOLD)
    save(lead, study, labels_per_pair="3")
    gold.refresh_from_db()
    copy.refresh_from_db()
    assert (gold.labels_wanted, copy.labels_wanted) == (0, 1)


def test_the_name_of_another_study_is_refused_and_what_was_typed_stays(lead: Client, study: Study) -> None:
    make_study(name="Taken")
    response = save(lead, study, name="taken", lease_minutes="7")
    html = response.content.decode()
    assert response.status_code == 409
    assert "A study called “taken” exists already; choose another name." in html
    assert 'value="7"' in html


def publish(client: Client, study: Study, text: str, based_on: int = 1):  # type: ignore[no-untyped-def]
    return client.post(reverse("study-guidelines", args=[study.slug]), {"text": text, "based_on": based_on})


def test_new_guidelines_are_a_new_version_and_labels_remember_theirs(lead: Client, study: Study) -> None:
    ana = make_annotator(study)
    first = label(make_pair(study), ana)
    assert publish(lead, study, "Prefer **short** ones.").status_code == 302
    second = label(make_pair(study), ana)
    assert (first.guidelines_version, second.guidelines_version) == (1, 2)
    html = client_of(ana).get(reverse("study-guidelines", args=[study.slug])).content.decode()
    assert "<strong>short</strong>" in html
    assert "<textarea" not in html
    assert AuditEntry.objects.get(action="guidelines.changed").details["version"] == 2


def test_unchanged_guidelines_stay_the_same_version(lead: Client, study: Study) -> None:
    publish(lead, study, study.guidelines.replace("\n", "\r\n") + "\n")
    study.refresh_from_db()
    assert study.guidelines_version == 1


def test_guidelines_edited_by_two_leads_lose_neither_text(lead: Client, study: Study) -> None:
    publish(lead, study, "first lead", based_on=1)
    response = publish(lead, study, "second lead", based_on=1)
    html = response.content.decode()
    assert response.status_code == 409
    assert "Version 2 of the guidelines was published while you were editing version 1." in html
    assert "second lead</textarea>" in html
    based_on = re.search(r'name="based_on" value="(\d+)"', html)
    assert based_on
    assert based_on[1] == "2"
    publish(lead, study, "second lead", based_on=2)
    study.refresh_from_db()
    assert (study.guidelines, study.guidelines_version) == ("second lead", 3)


def test_guidelines_that_are_too_long_are_refused(lead: Client, study: Study) -> None:
    assert publish(lead, study, "x" * 100_001).status_code == 400


def test_hostile_guidelines_are_harmless(lead: Client, study: Study) -> None:
    publish(lead, study, "<script>alert(1)</script> [x](javascript:alert(1))")
    html = lead.get(reverse("study-guidelines", args=[study.slug])).content.decode()
    assert "<script>alert" not in html
    assert 'href="javascript' not in html


def add(client: Client, study: Study, username: str, role: str = "annotator", display_name: str = ""):  # type: ignore[no-untyped-def]
    data = {"username": username, "role": role, "display_name": display_name}
    return client.post(reverse("member-add", args=[study.slug]), data)


def test_a_new_member_gets_an_account_whose_password_is_shown_once(lead: Client, study: Study) -> None:
    response = add(lead, study, "dora", display_name="Dora D.")
    html = response.content.decode()
    found = re.search(r'class="password"><code>([^<]+)</code>', html)
    assert found
    assert response["Cache-Control"] == "no-store"
    request = RequestFactory().post("/login/")
    assert authenticate(request, username="dora", password=found[1]) is not None
    assert found[1] not in lead.get(reverse("people", args=[study.slug])).content.decode()
    assert Membership.objects.get(user__username="dora").role == Role.ANNOTATOR
    assert AuditEntry.objects.get(action="member.added").details == {"user": "dora", "role": "annotator"}


def test_an_account_that_exists_is_added_as_it_is(lead: Client, study: Study) -> None:
    user = make_user("eva")
    response = add(lead, study, "EVA", role="viewer")
    assert response.status_code == 302
    assert Membership.objects.get(user=user).role == Role.VIEWER


def test_a_member_is_not_added_twice_and_a_strange_name_is_refused(lead: Client, study: Study) -> None:
    make_annotator(study, "ana")
    twice = add(lead, study, "ana")
    assert twice.status_code == 409
    assert "is a member already" in twice.content.decode()
    strange = add(lead, study, "no spaces please")
    assert strange.status_code == 409
    assert "is not possible" in strange.content.decode()
    assert 'value="no spaces please"' in strange.content.decode()
    assert add(lead, study, "").status_code == 400
    assert add(lead, study, "fred", role="king").status_code == 400
    assert not User.objects.filter(username="fred").exists()


def member_url(name: str, member: Membership) -> str:
    return reverse(name, args=[member.study.slug, member.pk])


def test_roles_change_and_are_audited(lead: Client, study: Study) -> None:
    member = Membership.objects.get(user=make_annotator(study))
    lead.post(member_url("member-role", member), {"role": "viewer"})
    member.refresh_from_db()
    assert member.role == Role.VIEWER
    assert AuditEntry.objects.get(action="member.role_changed").details["to"] == "viewer"
    lead.post(member_url("member-role", member), {"role": "king"})
    member.refresh_from_db()
    assert member.role == Role.VIEWER


@pytest.mark.parametrize("name", ["member-role", "member-remove"])
def test_the_last_lead_stays(lead: Client, study: Study, lead_user: User, name: str) -> None:
    member = Membership.objects.get(user=lead_user)
    response = lead.post(member_url(name, member), {"role": "viewer"}, follow=True)
    assert "is the only lead; make somebody else lead first." in response.content.decode()
    member.refresh_from_db()
    assert member.role == Role.LEAD


def test_a_lead_who_steps_down_lands_on_the_home_page(lead: Client, study: Study, lead_user: User) -> None:
    Membership.objects.create(user=make_user("second"), study=study, role=Role.LEAD)
    member = Membership.objects.get(user=lead_user)
    response = lead.post(member_url("member-remove", member))
    assert response["Location"] == reverse("home")
    assert not Membership.objects.filter(user=lead_user).exists()


def test_a_removed_member_leaves_labels_and_gives_pairs_back(lead: Client, study: Study) -> None:
    make_pairs(study, 3)
    ana = make_annotator(study)
    label(next_pair(study, ana).pair, ana)
    next_pair(study, ana)
    lead.post(member_url("member-remove", Membership.objects.get(user=ana)))
    assert Preference.objects.filter(annotator=ana).count() == 1
    assert not Lease.objects.exists()
    assert Pair.objects.filter(slots_taken=0).count() == 2
    assert client_of(ana).get(reverse("label", args=[study.slug])).status_code == 404
    assert_slots_add_up(study)


def test_simulated_members_are_marked(lead: Client, study: Study) -> None:
    Membership.objects.create(
        user=make_user("robot", simulated_rule="shorter"), study=study, role=Role.ANNOTATOR
    )
    html = lead.get(reverse("people", args=[study.slug])).content.decode()
    assert "simulated · rule shorter" in html


def urls_of(study: Study) -> dict[str, str]:
    member = Membership.objects.create(user=make_user("target"), study=study, role=Role.ANNOTATOR)
    return {
        "study-settings": reverse("study-settings", args=[study.slug]),
        "member-add": reverse("member-add", args=[study.slug]),
        "member-role": member_url("member-role", member),
        "member-remove": member_url("member-remove", member),
        "study-guidelines": reverse("study-guidelines", args=[study.slug]),
    }


def test_only_leads_change_anything(study: Study) -> None:
    urls = urls_of(study)
    for client, status in (
        (member_client(study, Role.ANNOTATOR), 403),
        (member_client(study, Role.VIEWER), 403),
        (outsider_client(), 404),
        (Client(), 302),
    ):
        for name, url in urls.items():
            assert client.post(url).status_code == status, name
    assert Membership.objects.get(user__username="target").role == Role.ANNOTATOR


def test_members_of_other_studies_do_not_exist_here(lead: Client, study: Study) -> None:
    foreign = Membership.objects.get(study=make_study(name="Other"))
    for name in ("member-role", "member-remove"):
        assert lead.post(reverse(name, args=[study.slug, foreign.pk]), {"role": "viewer"}).status_code == 404
        assert lead.post(reverse(name, args=[study.slug, 10**9]), {"role": "viewer"}).status_code == 404
        assert lead.get(reverse(name, args=[study.slug, foreign.pk])).status_code == 405
    assert lead.get(reverse("member-add", args=[study.slug])).status_code == 405
