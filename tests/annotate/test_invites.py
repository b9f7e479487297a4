"""Invite links: they let in whom they should, as often as they should, and say why they do not."""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.errors import InviteRefused, MemberRefused
from annotate.models import AuditEntry, Invite, Membership, Pair, Role, Study, User
from annotate.services.invites import NewAccount, create_invite, join_study, join_with_new_account
from tests.annotate.check_world import configure, make_known
from tests.support.labelling import make_pairs, make_study, make_user
from tests.support.people import client_of

pytestmark = pytest.mark.django_db
GOOD = {"username": "newcomer", "display_name": "New Comer", "password": "long enough 4 me"}


@pytest.fixture
def study() -> Study:
    return configure(make_study(), practice_pairs=1, repeat_share=0.0)


@pytest.fixture
def lead_user(study: Study) -> User:
    return User.objects.get(memberships__study=study, memberships__role=Role.LEAD)


def invite(study: Study, actor: User, *, role: Role = Role.ANNOTATOR, uses: int | None = 1) -> str:
    return create_invite(study=study, role=role, days=7, max_uses=uses, note="", actor=actor).token


def join_url(token: str) -> str:
    return reverse("join", args=[token])


def test_the_secret_is_shown_once_and_only_its_hash_is_kept(study: Study, lead_user: User) -> None:
    lead = client_of(lead_user)
    data = {"role": "annotator", "days": "7", "max_uses": "2", "note": "Tuesday"}
    response = lead.post(reverse("invite-create", args=[study.slug]), data)
    found = re.search(r"/join/([\w-]+)/", response.content.decode())
    assert found
    assert response["Cache-Control"] == "no-store"
    kept = Invite.objects.get()
    assert kept.token_hash == hashlib.sha256(found[1].encode()).hexdigest()
    assert len(found[1]) >= 43  # 32 bytes in base64
    assert found[1] not in lead.get(reverse("people", args=[study.slug])).content.decode()
    assert "Tuesday" in lead.get(reverse("people", args=[study.slug])).content.decode()


def test_somebody_new_chooses_an_account_and_lands_on_a_practice_pair(study: Study, lead_user: User) -> None:
    make_known(study, Pair.Purpose.PRACTICE)
    make_pairs(study, 1)
    client = Client()
    url = join_url(invite(study, lead_user))
    assert study.name in client.get(url).content.decode()
    response = client.post(url, GOOD, follow=True)
    assert response.redirect_chain == [(reverse("label", args=[study.slug]), 302)]
    assert 'data-practice="1"' in response.content.decode()
    assert Membership.objects.get(user__username="newcomer").role == Role.ANNOTATOR
    assert User.objects.get(username="newcomer").check_password(GOOD["password"])


def test_somebody_signed_in_joins_with_one_click(study: Study, lead_user: User) -> None:
    user = make_user("eva")
    client = client_of(user)
    url = join_url(invite(study, lead_user, role=Role.VIEWER))
    html = client.get(url).content.decode()
    assert "password" not in html
    assert client.post(url).status_code == 302
    assert Membership.objects.get(user=user).role == Role.VIEWER


def test_looking_at_a_link_changes_nothing(study: Study, lead_user: User) -> None:
    url = join_url(invite(study, lead_user))
    for client in (Client(), client_of(make_user("eva"))):
        assert client.get(url).status_code == 200
    assert Invite.objects.get().uses == 0
    assert not Membership.objects.filter(user__username="eva").exists()


def test_a_member_who_follows_a_link_goes_to_the_study_and_uses_nothing_up(
    study: Study, lead_user: User
) -> None:
    token = invite(study, lead_user)
    lead = client_of(lead_user)
    assert lead.get(join_url(token)).status_code == 302
    assert lead.post(join_url(token)).status_code == 302
    assert Invite.objects.get().uses == 0
    assert Membership.objects.get(user=lead_user).role == Role.LEAD


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"expires_at": timezone.now() - timedelta(minutes=1)}, "This link has expired."),
        ({"revoked_at": timezone.now()}, "This link was withdrawn."),
        ({"uses": 1}, "This link has been used as often as it could be."),
    ],
)
def test_a_link_that_lets_nobody_in_says_why(
    study: Study, lead_user: User, change: dict[str, object], sentence: str
) -> None:
    url = join_url(invite(study, lead_user))
    Invite.objects.update(**change)
    for client in (Client(), client_of(make_user("eva"))):
        response = client.get(url)
        assert response.status_code == 410
        assert sentence in response.content.decode()
        assert sentence in client.post(url, GOOD).content.decode()
    assert not User.objects.filter(username="newcomer").exists()


def test_an_unknown_link_and_a_closed_study_say_so(study: Study, lead_user: User) -> None:
    response = Client().get(join_url("no-such-secret"))
    assert response.status_code == 404
    assert "This link is not known here." in response.content.decode()
    token = invite(study, lead_user)
    configure(study, state="closed")  # type: ignore[arg-type]
    assert "This study is closed" in Client().get(join_url(token)).content.decode()


@pytest.mark.parametrize(
    ("change", "sentence", "status"),
    [
        ({"password": "short"}, "too short", 400),
        ({"password": "password123"}, "too common", 400),
        ({"username": "no spaces please"}, "is not possible", 409),
        ({"username": "taken"}, "is taken", 409),
        ({"username": ""}, "This field is required.", 400),
    ],
)
def test_an_account_that_cannot_be_made_uses_nothing_up_and_keeps_what_was_typed(
    study: Study, lead_user: User, change: dict[str, str], sentence: str, status: int
) -> None:
    make_user("taken")
    users = User.objects.count()
    response = Client().post(join_url(invite(study, lead_user)), {**GOOD, **change})
    html = response.content.decode()
    assert (response.status_code, sentence in html, "New Comer" in html) == (status, True, True)
    assert (Invite.objects.get().uses, User.objects.count()) == (0, users)


def test_a_link_makes_nobody_a_lead_and_lasts_90_days_at_most(study: Study, lead_user: User) -> None:
    with pytest.raises(InviteRefused, match="cannot make somebody a lead"):
        invite(study, lead_user, role=Role.LEAD)
    with pytest.raises(InviteRefused, match="between 1 and 90"):
        create_invite(study=study, role=Role.VIEWER, days=91, max_uses=None, note="", actor=lead_user)
    lead = client_of(lead_user)
    data = {"role": "lead", "days": "7"}
    assert lead.post(reverse("invite-create", args=[study.slug]), data).status_code == 400


def test_a_revoked_link_stays_closed_and_who_came_in_stays(study: Study, lead_user: User) -> None:
    token = invite(study, lead_user, uses=None)
    eva = make_user("eva")
    join_study(token=token, user=eva)
    client_of(lead_user).post(reverse("invite-revoke", args=[study.slug, Invite.objects.get().pk]))
    assert Membership.objects.filter(user=eva).exists()
    with pytest.raises(InviteRefused, match="withdrawn"):
        join_study(token=token, user=make_user("fred"))
    actions = list(AuditEntry.objects.filter(action__startswith="invite.").values_list("action", flat=True))
    assert sorted(actions) == ["invite.created", "invite.revoked", "invite.used"]


def test_trying_names_or_links_is_throttled(study: Study, lead_user: User) -> None:
    make_user("taken")
    url = join_url(invite(study, lead_user))
    client = Client()
    for _ in range(5):
        client.post(url, {**GOOD, "username": "taken"})
    assert client.post(url, GOOD).status_code == 429
    assert not User.objects.filter(username="newcomer").exists()
    assert client.get(url).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_link_for_two_lets_two_in_however_many_come_at_once() -> None:
    study = make_study()
    lead = User.objects.get(memberships__study=study)
    token = invite(study, lead, uses=2)
    people = [make_user(f"guest-{number}") for number in range(8)]

    def come(user: User) -> bool:
        try:
            join_study(token=token, user=user)
        except InviteRefused:
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(max_workers=8) as pool:
        let_in = list(pool.map(come, people))
    assert sum(let_in) == 2
    assert Invite.objects.get().uses == 2
    assert Membership.objects.filter(study=study, role=Role.ANNOTATOR).count() == 2


@pytest.mark.django_db(transaction=True)
def test_two_people_who_want_the_same_name_at_once_get_one_account() -> None:
    study = make_study()
    token = invite(study, User.objects.get(memberships__study=study), uses=None)
    account = NewAccount(username="same", display_name="", password="long enough 4 me")

    def come(_: int) -> bool:
        try:
            join_with_new_account(token=token, account=account)
        except (MemberRefused, IntegrityError):
            return False
        finally:
            connection.close()
        return True

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert sum(pool.map(come, range(4))) == 1
    assert Invite.objects.get().uses == 1
