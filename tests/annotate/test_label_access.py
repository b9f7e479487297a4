"""Who may use the labelling screen, and what a label costs."""

from __future__ import annotations

import uuid

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Pair, Preference, Role, Study, User
from tests.support.labelling import (
    make_pair,
    make_pairs,
    make_study,
    make_user,
)
from tests.support.people import (
    client_of,
    judge,
    judge_url,
    judgement,
    member_client,
    outsider_client,
    page,
    shown_pair,
)

pytestmark = pytest.mark.django_db


def queries_of_cycles(client: Client, study: Study, *, cycles: int = 12) -> list[int]:
    """Return the number of queries of each label, the first two apart, which write an annotator's rows."""
    html = page(client, study)
    counts = []
    for _ in range(cycles + 2):
        with CaptureQueriesContext(connection) as queries:
            html = judge(client, study, html).content.decode()
        counts.append(len(queries))
    return counts[2:]


def test_queries_of_a_label_cycle_are_constant_and_few(client: Client, study: Study) -> None:
    Study.objects.update(repeat_share=0)
    make_pairs(study, 40)
    # Session, person, membership, pair: 4. The label: 6. The next lease, the checks' look among it: 8. The
    # figures: 1. A savepoint and its release stand in for BEGIN and COMMIT here.
    assert set(queries_of_cycles(client, study)) == {21}


def test_a_check_that_is_due_costs_a_few_queries_more_and_no_more_than_that(
    client: Client, study: Study
) -> None:
    Study.objects.update(repeat_share=0.5)
    make_pairs(study, 40)
    assert max(queries_of_cycles(client, study, cycles=35)) <= 32


POSTS = ["label-judge", "label-skip", "label-undo"]


def address(name: str, study: Study, pair: Pair) -> str:
    return reverse(name, args=[study.slug] if name == "label-undo" else [study.slug, pair.pk])


@pytest.mark.parametrize("name", POSTS)
def test_outsiders_get_404_viewers_403_and_get_405(study: Study, client: Client, name: str) -> None:
    url = address(name, study, make_pair(study))
    assert outsider_client().post(url).status_code == 404
    assert member_client(study, Role.VIEWER).post(url).status_code == 403
    assert client.get(url).status_code == 405


@pytest.mark.parametrize("name", ["label", "label-next"])
def test_pages_are_for_annotators_and_leads(study: Study, client: Client, name: str) -> None:
    url = reverse(name, args=[study.slug])
    assert client.get(url).status_code == 200
    assert client_of(User.objects.get(memberships__role=Role.LEAD)).get(url).status_code == 200
    assert outsider_client().get(url).status_code == 404
    assert member_client(study, Role.VIEWER).get(url).status_code == 403
    assert client.post(url).status_code == 405
    assert Client().get(url).status_code == 302


@pytest.mark.parametrize("name", ["label-judge", "label-skip"])
def test_pairs_of_other_studies_do_not_exist_here(study: Study, client: Client, name: str) -> None:
    pair = make_pair(make_study(name="Other"))
    assert client.post(address(name, study, pair)).status_code == 404
    assert client.post(reverse(name, args=[study.slug, 10**9])).status_code == 404


def test_a_label_without_csrf_token_is_refused(study: Study, ana: User) -> None:
    make_pair(study)
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ana, backend="annotate.signed_in.AccountBackend")
    html = page(strict, study)
    response = strict.post(judge_url(study, shown_pair(html)), judgement(html))
    assert response.status_code == 403
    assert "The form was too old" in response.content.decode()
    assert not Preference.objects.exists()


def test_a_superuser_is_lead_everywhere(study: Study) -> None:
    make_pair(study)
    root = make_user("root")
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    root.refresh_from_db()
    html = page(client_of(root), study)
    assert judge(client_of(root), study, html).status_code == 200
    assert uuid.UUID(judgement(html)["client_id"])
