"""What the labelling screen says when there is no pair, and of progress."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotate.models import Lease, Study, User
from annotate.services.studies import set_queue_notice
from tests.support.labelling import (
    label,
    make_annotator,
    make_pair,
    make_pairs,
    next_pair,
)
from tests.support.people import (
    SCRIPT,
    page,
    shown_pair,
)

pytestmark = pytest.mark.django_db


def empty(client: Client, study: Study) -> str:
    html = page(client, study)
    assert "data-pair=" not in html
    return html


def test_empty_before_any_pair(client: Client, study: Study) -> None:
    set_queue_notice(study=study, text="New pairs are being sampled; 12 are here so far.")
    html = empty(client, study)
    assert "No pairs yet" in html
    assert "New pairs are being sampled; 12 are here so far." in html
    assert 'hx-trigger="every 5s"' in html


def test_empty_when_all_is_done_names_what_is_going_on(client: Client, study: Study, ana: User) -> None:
    label(make_pair(study), ana)
    set_queue_notice(study=study, text="Round 2 is training.")
    html = empty(client, study)
    assert "All done" in html
    assert "You have labelled 1 pair in this study." in html
    assert "Round 2 is training." in html


def test_empty_while_colleagues_hold_the_rest_says_when_one_frees(client: Client, study: Study) -> None:
    make_pairs(study, 3)
    ben, cy = make_annotator(study, "ben"), make_annotator(study, "cy")
    first = next_pair(study, ben)
    next_pair(study, ben, beyond=first.pair.pk)
    next_pair(study, cy)
    Lease.objects.filter(annotator=cy).update(expires_at=timezone.now() + timedelta(seconds=200))
    html = empty(client, study)
    assert "3 pairs are held by colleagues" in html
    assert "the next frees in 4 min" in html
    assert "All done" not in html


def test_a_pair_that_is_fully_labelled_by_others_is_not_held(client: Client, study: Study) -> None:
    label(make_pair(study), make_annotator(study, "ben"))
    assert "All done" in empty(client, study)


@pytest.mark.parametrize(
    ("state", "text", "polls"),
    [(Study.State.PAUSED, "This study is paused", True), (Study.State.CLOSED, "This study is closed", False)],
)
def test_empty_while_paused_or_closed(
    client: Client, study: Study, state: Study.State, text: str, polls: bool
) -> None:
    make_pair(study)
    Study.objects.update(state=state)
    html = empty(client, study)
    assert text in html
    assert ("every 5s" in html) is polls
    status = client.get(reverse("label-next", args=[study.slug]), headers=SCRIPT).status_code
    assert status == (200 if polls else 286)


def test_the_empty_state_replaces_itself_with_a_pair_that_arrives(client: Client, study: Study) -> None:
    empty(client, study)
    pair = make_pair(study)
    fragment = client.get(reverse("label-next", args=[study.slug]), headers=SCRIPT).content.decode()
    assert shown_pair(fragment) == pair.pk
    assert fragment.lstrip().startswith('<div id="stage"')


def test_progress_counts_own_labels_and_what_is_left(client: Client, study: Study, ana: User) -> None:
    pairs = make_pairs(study, 4)
    label(pairs[0], ana)
    label(pairs[1], make_annotator(study, "ben"))
    html = page(client, study)
    assert "<strong>1</strong> labelled" in html
    assert "2 left" in html
