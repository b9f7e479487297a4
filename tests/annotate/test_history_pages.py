"""One's own labels: found by text and kind, changed while open; nobody else's, and no purposes."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from annotate.models import Flag, Pair, Preference, Study, User, Verdict
from annotate.selectors.history import PAGE_SIZE, history_of, trail_of
from annotate.services.flags import flag_pair
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import skip_pair
from tests.support.labelling import (
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_prompt,
    make_study,
    next_pair,
    undo,
)
from tests.support.people import client_of

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


def found(study: Study, ana: User, **wanted: str) -> list[int]:
    return [row.pair_id for row in history_of(study=study, annotator=ana, **wanted).rows]  # type: ignore[arg-type]


def test_labels_are_found_by_text_in_prompt_response_and_rationale(study: Study, ana: User) -> None:
    one = make_pair(study, prompt=make_prompt(study, "Où est la gare?"))
    two = make_pair(study, texts=("a peculiar text", "x"))
    three = make_pair(study)
    for pair in (one, two, three):
        label(pair, ana)
    Preference.objects.filter(pair=three).update(rationale="Because of the tone")
    assert found(study, ana, search="où EST".lower()) == [one.pk]
    assert found(study, ana, search="PECULIAR") == [two.pk]
    assert found(study, ana, search="the tone") == [three.pk]
    assert found(study, ana, search="nowhere") == []
    assert found(study, ana) == [three.pk, two.pk, one.pk]


def test_labels_are_filtered_by_what_the_person_saw(study: Study, ana: User) -> None:
    left, right, tie, bad, skipped, flagged = make_pairs(study, 6)
    label(left, ana, Verdict.B, side="b")  # type: ignore[arg-type]
    label(right, ana, Verdict.A, side="b")  # type: ignore[arg-type]
    label(tie, ana, Verdict.TIE)
    label(bad, ana, Verdict.BOTH_BAD)
    for pair in (skipped, flagged):
        skip_pair(pair=pair, annotator=ana)
    flag_pair(pair=flagged, annotator=ana, reason=Flag.Reason.BROKEN)
    flag_pair(pair=tie, annotator=ana, reason=Flag.Reason.OTHER)
    assert found(study, ana, chosen="left") == [left.pk]
    assert found(study, ana, chosen="right") == [right.pk]
    assert found(study, ana, chosen="both_bad") == [bad.pk]
    assert found(study, ana, chosen="skipped") == [flagged.pk, skipped.pk]
    assert found(study, ana, chosen="flagged") == [flagged.pk, tie.pk]
    assert found(study, ana, chosen="edited") == []
    assert len(found(study, ana, chosen="nonsense")) == 4


def test_the_history_holds_nobody_elses_labels_no_practice_and_no_purposes(
    client: Client, study: Study, ana: User
) -> None:
    gold = make_pair(study, purpose=Pair.Purpose.GOLD)
    practice = make_pair(study, purpose=Pair.Purpose.PRACTICE)
    other = make_pair(study)
    for pair in (gold, practice):
        label(pair, ana)
    label(other, make_annotator(study, "ben"))
    assert found(study, ana) == [gold.pk]
    html = client.get(reverse("history", args=[study.slug])).content.decode().lower()
    assert "gold" not in html
    page = client.get(reverse("history-pair", args=[study.slug, other.pk]))
    assert page.status_code == 302


def test_the_history_is_paged_and_costs_the_same(
    client: Client, study: Study, ana: User, django_assert_max_num_queries: object
) -> None:
    for pair in make_pairs(study, PAGE_SIZE + 3):
        label(pair, ana)
    url = reverse("history", args=[study.slug])
    with django_assert_max_num_queries(9):  # type: ignore[operator]
        assert client.get(url).content.decode().count("history-verdict") == PAGE_SIZE
    assert client.get(f"{url}?page=2").content.decode().count("history-verdict") == 3
    assert client.get(f"{url}?page=nonsense&show=nonsense").status_code == 200


def test_a_label_is_changed_over_http_and_a_frozen_one_is_not(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study, batch=4)
    label(pair, ana, Verdict.A)
    url = reverse("history-pair", args=[study.slug, pair.pk])
    assert client.post(url, {}).status_code == 400
    stamp = stamp_in(client.get(url).content.decode())
    assert client.post(url, {"verdict": "right", "rationale": "no", "stamp": stamp}).status_code == 302
    assert Preference.objects.get().verdict == "b"
    freeze_batch(study=study, batch=4)
    refused = client.post(url, {"verdict": "left", "stamp": Preference.objects.get().stamp})
    assert refused.status_code == 409
    assert "frozen" in refused.content.decode()
    assert Preference.objects.get().verdict == "b"


def stamp_in(html: str) -> str:
    """Return which label the page's form would change, "" when it has no form."""
    found = re.search(r'name="stamp" value="([^"]*)"', html)
    return found[1] if found else ""


def test_a_change_of_a_label_that_was_changed_since_is_refused_and_what_was_typed_stays(
    client: Client, study: Study, ana: User
) -> None:
    pair = make_pair(study)
    label(pair, ana, Verdict.A)
    url = reverse("history-pair", args=[study.slug, pair.pk])
    stamp = stamp_in(client.get(url).content.decode())
    first = {"verdict": "tie", "rationale": "first thought", "stamp": stamp}
    assert client.post(url, first).status_code == 302
    late = client.post(url, {"verdict": "right", "rationale": "an older thought", "stamp": stamp})
    html = late.content.decode()
    assert (late.status_code, "changed this label since" in html) == (409, True)
    assert ">an older thought</textarea>" in html
    assert "older thought" in html.split("data-draft=")[1].split(">")[0]
    # The same again is no change; on the page that was answered the person knows what they change.
    assert client.post(url, first).status_code == 302
    assert Preference.objects.get().rationale == "first thought"
    assert client.post(url, {"verdict": "right", "stamp": stamp_in(html)}).status_code == 302
    assert Preference.objects.get().verdict == "b"


def test_a_change_of_a_label_that_was_given_anew_is_refused(client: Client, study: Study, ana: User) -> None:
    pair = make_pair(study)
    label(pair, ana, Verdict.A)
    url = reverse("history-pair", args=[study.slug, pair.pk])
    stamp = stamp_in(client.get(url).content.decode())
    undo(study, ana)
    label(pair, ana, Verdict.TIE)
    assert client.post(url, {"verdict": "right", "stamp": stamp}).status_code == 409
    assert Preference.objects.get().verdict == "tie"


def test_the_trail_is_the_last_ten_acts_oldest_first(study: Study, ana: User) -> None:
    make_pairs(study, 12)
    for number in range(12):
        leased = next_pair(study, ana)
        if number % 3:
            label(leased.pair, ana)
        else:
            skip_pair(pair=leased.pair, annotator=ana)
    trail = trail_of(study=study, annotator=ana)
    assert [row.shown == "skipped" for row in trail] == [number % 3 == 0 for number in range(2, 12)]
