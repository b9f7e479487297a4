"""Signing in, the demo's one-click login, and where people land."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from pytest_django import Settings

from annotate.models import Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.studies import add_member
from tests.support.labelling import label, make_annotator, make_pair, make_study, make_user
from tests.support.people import client_of, member_client

pytestmark = pytest.mark.django_db
LOOPBACK: dict[str, Any] = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000"}


@pytest.fixture
def demo(settings: Settings) -> None:
    settings.DEMO = True
    settings.ALLOWED_HOSTS = ["*"]
    create_user(username="lea", display_name="Lea", one_click_login=True)
    create_user(username="private")


def press(username: str = "lea", **environment: Any):  # type: ignore[no-untyped-def]
    return Client(**{**LOOPBACK, **environment}).post(reverse("demo-login"), {"username": username})


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "[::1]:8000"])
def test_one_click_signs_in_on_this_machine(host: str) -> None:
    response = press(HTTP_HOST=host)
    assert (response.status_code, response["Location"]) == (302, reverse("home"))
    assert response.client.session["_auth_user_id"] == str(User.objects.get(username="lea").pk)


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize(
    "environment",
    [
        {"REMOTE_ADDR": "192.0.2.7"},
        {"REMOTE_ADDR": ""},
        {"HTTP_HOST": "studio.example.org"},
        {"HTTP_HOST": "127.0.0.1.example.org"},
        {"HTTP_HOST": "localhost.example.org"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_X_REAL_IP": "127.0.0.1"},
    ],
)
def test_one_click_does_not_exist_from_elsewhere(environment: dict[str, Any]) -> None:
    assert press(**environment).status_code == 404
    page = Client(**{**LOOPBACK, **environment}).get(reverse("login")).content.decode()
    assert "Try the demo" not in page
    assert 'value="lea"' not in page


@pytest.mark.usefixtures("demo")
def test_one_click_does_not_exist_outside_the_demo(settings: Settings) -> None:
    settings.DEMO = False
    assert press().status_code == 404
    assert "Try the demo" not in Client(**LOOPBACK).get(reverse("login")).content.decode()


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("username", ["private", "nobody", ""])
def test_one_click_opens_demo_accounts_only(username: str) -> None:
    assert press(username).status_code == 404


@pytest.mark.usefixtures("demo")
def test_one_click_needs_a_post_with_its_token() -> None:
    assert Client(**LOOPBACK).get(reverse("demo-login")).status_code == 405
    strict = Client(enforce_csrf_checks=True, **LOOPBACK)
    assert strict.post(reverse("demo-login"), {"username": "lea"}).status_code == 403


@pytest.mark.usefixtures("demo")
def test_the_login_page_offers_the_demo_accounts_here() -> None:
    page = Client(**LOOPBACK).get(reverse("login")).content.decode()
    assert "Try the demo" in page
    assert 'value="lea"' in page
    assert "private" not in page


def test_a_password_signs_in_and_sign_out_is_a_post() -> None:
    _, password = create_user(username="ana")
    client = Client()
    response = client.post(reverse("login"), {"username": "ana", "password": password})
    assert (response.status_code, response["Location"]) == (302, reverse("home"))
    assert client.get(reverse("logout")).status_code == 405
    assert client.post(reverse("logout"))["Location"] == reverse("login")
    assert client.get(reverse("home")).status_code == 302


def test_a_wrong_password_keeps_the_name_and_the_way(settings: Settings) -> None:
    create_user(username="ana")
    response = Client().post(
        reverse("login") + "?next=/x/", {"username": "ana", "password": "x", "next": "/x/"}
    )
    html = response.content.decode()
    assert 'value="ana"' in html
    assert 'name="next" value="/x/"' in html
    assert "notice-error" in html


def test_signing_in_does_not_lead_to_other_sites() -> None:
    _, password = create_user(username="ana")
    data = {"username": "ana", "password": password, "next": "https://evil.example/"}
    assert Client().post(reverse("login"), data)["Location"] == reverse("home")


def test_too_many_attempts_lock_the_name_out_with_a_page_that_says_so() -> None:
    _, password = create_user(username="ana")
    client = Client()
    for _ in range(5):
        response = client.post(reverse("login"), {"username": "ana", "password": "wrong"})
    assert response.status_code == 429
    assert "Too many attempts" in response.content.decode()
    assert client.post(reverse("login"), {"username": "ana", "password": password}).status_code == 429


def test_an_annotator_with_one_study_lands_on_its_pairs() -> None:
    study = make_study()
    assert member_client(study, Role.ANNOTATOR).get("/")["Location"] == reverse("label", args=[study.slug])


def test_home_lists_own_studies_with_the_one_sensible_action() -> None:
    study, other, foreign = make_study(name="One"), make_study(name="Two"), make_study(name="Three")
    ana = make_annotator(study)
    add_member(study=other, user=ana, role=Role.LEAD, actor=None)
    make_pair(study)
    label(make_pair(study), ana)
    html = client_of(ana).get("/").content.decode()
    assert foreign.name not in html
    assert "Go on labelling" in html
    assert "Import prompts" in html
    assert reverse("study-create") in html


def test_home_costs_the_same_number_of_queries_for_any_number_of_studies(
    django_assert_max_num_queries: object,
) -> None:
    user = make_user("many")
    for number in range(12):
        add_member(study=make_study(name=f"Study {number}"), user=user, role=Role.ANNOTATOR, actor=None)
    client = client_of(user)
    with django_assert_max_num_queries(9):  # type: ignore[operator]
        assert client.get("/").status_code == 200


def test_somebody_without_a_study_is_told_what_to_do() -> None:
    html = client_of(make_user("newcomer")).get("/").content.decode()
    assert "No study yet" in html
    assert "newcomer" in html
    assert reverse("study-create") not in html
    boss = make_user("boss")
    User.objects.filter(pk=boss.pk).update(is_staff=True)
    boss.refresh_from_db()
    assert reverse("study-create") in client_of(boss).get("/").content.decode()


def test_missing_pages_and_forbidden_ones_have_a_way_back() -> None:
    study: Study = make_study()
    viewer = member_client(study, Role.VIEWER)
    forbidden = viewer.get(reverse("label", args=[study.slug]))
    missing = viewer.get("/studies/none/label/")
    assert (forbidden.status_code, missing.status_code) == (403, 404)
    assert "Not for you" in forbidden.content.decode()
    assert "Nothing here" in missing.content.decode()
