"""Reading the session and the account cheaply leaves every reason for which a session ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Study, User
from tests.support.labelling import make_annotator, make_study
from tests.support.people import client_of

pytestmark = pytest.mark.django_db


def new_password(person: User) -> None:
    person.set_password("quite another phrase")
    person.save()


def switched_off(person: User) -> None:
    User.objects.filter(pk=person.pk).update(is_active=False)


def deleted(person: User) -> None:
    person.delete()


def run_out(person: User) -> None:
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))


def ended_elsewhere(person: User) -> None:
    Session.objects.all().delete()


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.mark.parametrize("end", [new_password, switched_off, deleted, run_out, ended_elsewhere])
def test_a_session_ends_with_the_next_request_when(end: Callable[[User], None], study: Study) -> None:
    ana = make_annotator(study, "ana")
    client = client_of(ana)
    address = reverse("label", args=[study.slug])
    assert client.get(address).status_code == 200
    end(ana)
    answer = client.get(address)
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (302, reverse("login"))


def test_a_made_up_session_is_nobodys(study: Study) -> None:
    client = Client()
    client.cookies["sessionid"] = "x" * 32
    assert client.get(reverse("label", args=[study.slug])).status_code == 302


def test_signing_out_ends_the_session_for_a_copy_of_its_cookie(study: Study) -> None:
    ana = make_annotator(study, "ana")
    client, copy = client_of(ana), Client()
    copy.cookies["sessionid"] = client.cookies["sessionid"].value
    address = reverse("label", args=[study.slug])
    assert copy.get(address).status_code == 200
    client.post(reverse("logout"))
    assert copy.get(address).status_code == 302
