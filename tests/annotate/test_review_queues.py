"""The queues of pairs in dispute: the same as counting each pair's votes, at the same number of queries."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotate.models import Pair, Preference, Resolution, Role, Study, User
from annotate.selectors.conflicts import PAGE_SIZE, ReviewFilter, next_to_review, review_ids, review_queues
from tests.support.people import member_client
from tests.support.voted_study import make_voted_study

pytestmark = pytest.mark.django_db


def votes_of_undecided_pairs(study: Study) -> dict[int, Counter[str]]:
    pairs = study.pairs.filter(resolution=None).exclude(state=Pair.State.WITHDRAWN)
    return {
        pair.pk: Counter(pair.preferences.values_list("verdict", flat=True)) for pair in pairs.order_by("pk")
    }


def leads_alike(votes: Counter[str]) -> bool:
    return len(votes) > 1 and list(votes.values()).count(max(votes.values())) > 1


def ids(study: Study, kind: str, *, batch: str = "", annotator: str = "", reason: str = "") -> list[int]:
    return review_ids(study, wanted=ReviewFilter(kind, batch=batch, annotator=annotator, reason=reason))


@pytest.mark.parametrize("seed", [1, 2])
def test_pairs_in_dispute_are_those_whose_votes_differ(seed: int) -> None:
    study = make_voted_study(seed=seed, frozen=2)
    votes = votes_of_undecided_pairs(study)
    differing = [pk for pk, counted in votes.items() if len(counted) > 1]
    tied = [pk for pk in differing if leads_alike(votes[pk])]
    assert 0 < len(tied) < len(differing)
    assert (ids(study, "disagreements"), ids(study, "conflicts")) == (differing, tied)
    assert ids(study, "conflicts", batch="2") == [pk for pk in tied if Pair.objects.get(pk=pk).batch == 2]
    ben = User.objects.get(username="ben")
    assert ids(study, "conflicts", annotator=str(ben.pk)) == [
        pk for pk in tied if Preference.objects.filter(pair=pk, annotator=ben).exists()
    ]
    assert ids(study, "decided") == [
        pair.pk
        for pair in study.pairs.order_by("pk")
        if pair.state == Pair.State.WITHDRAWN or Resolution.objects.filter(pair=pair).exists()
    ]


def test_the_tabs_count_whole_queues_and_the_page_shows_the_filtered_one() -> None:
    study = make_voted_study(seed=1)
    queues = review_queues(study, wanted=ReviewFilter(kind="conflicts", batch="1"), number="1")
    sizes = {tab.kind: tab.count for tab in queues.tabs}
    assert sizes == {kind: len(ids(study, kind)) for kind in sizes}
    assert [tab.kind for tab in queues.tabs if tab.is_open] == ["conflicts"]
    assert [pair.pk for pair in queues.pairs] == ids(study, "conflicts", batch="1")[:PAGE_SIZE]


def test_the_queue_goes_on_behind_a_pair_and_begins_again_at_its_end() -> None:
    study = make_voted_study(seed=1)
    wanted = ReviewFilter(kind="conflicts")
    first, second, *_, last = ids(study, "conflicts")
    assert next_to_review(study, wanted=wanted, after=first) == second
    assert next_to_review(study, wanted=wanted, after=last) == first
    assert next_to_review(study, wanted=ReviewFilter(kind="flags"), after=first) is None


def test_a_list_of_pairs_is_worked_off_in_its_order_and_ends_where_it_began() -> None:
    study = make_voted_study(seed=1)
    client = member_client(study, Role.LEAD)
    first, second, third, *_ = [pair.pk for pair in study.pairs.filter(state="open", resolution=None)]
    listed = f"{third},{first},999999,{second}"
    back = f"/studies/{study.slug}/somewhere/"

    def decide(pk: int) -> str:
        answer = client.post(
            reverse("pair-resolve", args=[study.slug, pk]),
            {"decision": "left_out", "pairs": listed, "back": back},
        )
        return str(answer["Location"])

    address = reverse("review-pair", args=[study.slug, third])
    html = client.get(address, {"pairs": listed, "back": back}).content.decode()
    assert f'<a href="{back}">Back to the list</a>' in html
    assert f"/review/{first}/?pairs=" in html
    assert f"/review/{first}/?pairs=" in decide(third)
    assert f"/review/{second}/?pairs=" in decide(first)
    assert decide(second) == back


@pytest.mark.parametrize(
    "back", ["//elsewhere.example/", "https://elsewhere.example/", "javascript:alert(1)"]
)
def test_a_list_of_pairs_leads_back_to_no_other_site(back: str) -> None:
    study = make_voted_study(seed=1)
    pair = study.pairs.filter(state="open", resolution=None)[0]
    answer = member_client(study, Role.LEAD).post(
        reverse("pair-resolve", args=[study.slug, pair.pk]),
        {"decision": "left_out", "pairs": str(pair.pk), "back": back},
    )
    assert answer["Location"].startswith(f"/studies/{study.slug}/review/?")


def test_the_page_costs_as_many_queries_for_many_pairs_as_for_few() -> None:
    study = make_voted_study(seed=1)
    client = member_client(study, Role.LEAD)
    url = reverse("review", args=[study.slug])

    def statements(query: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(f"{url}?{query}").status_code == 200
        return len(captured)

    many = {kind: statements(f"kind={kind}") for kind in ("conflicts", "disagreements", "decided")}
    Preference.objects.filter(pair__batch__gt=1).delete()
    assert {kind: statements(f"kind={kind}") for kind in many} == many
    assert max(many.values()) <= 16
