"""Signed-in test clients and the labelling screen's form, read from its HTML."""

from __future__ import annotations

import re
import uuid
from typing import cast

from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from annotate.models import Role, Study, User
from annotate.services.studies import add_member
from tests.support.labelling import make_user

# What htmx and the page's own script send along.
SCRIPT = {"HX-Request": "true"}


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend="annotate.signed_in.AccountBackend")
    return client


def member_client(study: Study, role: Role, *, username: str = "") -> Client:
    """Return the client of a new member with this role."""
    user = make_user(username or f"some-{role.value}")
    add_member(study=study, user=user, role=role, actor=None)
    return client_of(user)


def outsider_client() -> Client:
    return client_of(make_user("outsider"))


def page(client: Client, study: Study) -> str:
    """Return the labelling page."""
    response = client.get(reverse("label", args=[study.slug]))
    assert response.status_code == 200
    return response.content.decode()


def judge(client: Client, study: Study, html: str, verdict: str = "left", **more: str) -> HttpResponse:
    """Submit the verdict form of `html` as the page's script does; return the answer."""
    data = {**judgement(html, verdict), **more}
    return cast(HttpResponse, client.post(judge_url(study, shown_pair(html)), data, headers=SCRIPT))


def shown_pair(html: str) -> int:
    """Return the id of the pair that the page shows."""
    found = re.search(r'data-pair="(\d+)"', html)
    assert found, "no pair is shown"
    return int(found[1])


def judgement(html: str, verdict: str = "left") -> dict[str, str]:
    """Return the fields of the page's verdict form."""
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', html))
    return {"client_id": fields["client_id"], "shown": fields["shown"], "verdict": verdict}


def judge_url(study: Study, pair_id: int) -> str:
    return reverse("label-judge", args=[study.slug, pair_id])


def fresh_judgement(html: str, **changes: str) -> dict[str, str]:
    """Return the form's fields under a new client id, as another tab would send them."""
    return {**judgement(html), "client_id": str(uuid.uuid4()), **changes}
