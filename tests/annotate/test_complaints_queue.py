"""What people complain about in other labelling tools' queues, as properties of this one, named after it.

Numbers 1 and 3 also hold over HTTP for fifty people with bad luck: `tests/faults/test_many_annotators.py`.
"""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotate.models import Lease, Preference, Study, User, Verdict
from annotate.services.preferences import record_preference, skip_pair
from annotate.services.queue import lease_next_pair
from tests.support.labelling import label, make_annotator, make_pair, make_pairs, make_study, next_pair
from tests.support.people import client_of, judge, page, shown_pair


def plain_study(*, labels_per_pair: int = 1) -> Study:
    study = make_study(labels_per_pair=labels_per_pair)
    Study.objects.update(repeat_share=0, practice_pairs=0)
    study.refresh_from_db()
    return study


@pytest.mark.django_db
def test_complaint_1_two_annotators_get_the_same_task() -> None:
    study = plain_study()
    make_pairs(study, 6)
    people = [make_annotator(study, f"annotator{number}") for number in range(3)]
    held = [next_pair(study, person).pair.pk for person in people]
    held += [next_pair(study, person, beyond=pair).pair.pk for person, pair in zip(people, held, strict=True)]
    assert len(set(held)) == 6


@pytest.mark.django_db
def test_complaint_2_no_more_tasks_while_others_hold_them_and_expired_locks_never_clear() -> None:
    study = plain_study()
    pair = make_pair(study)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    next_pair(study, ben)
    html = page(client_of(ana), study)
    assert "1 pair is held by colleagues" in html
    assert "All done" not in html
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert next_pair(study, ana).pair == pair


@pytest.mark.django_db
def test_complaint_3_the_second_annotator_cannot_get_an_overlapped_task() -> None:
    study = plain_study(labels_per_pair=2)
    make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for person in (ana, ana, ana, ben, ben, ben):
        label(next_pair(study, person).pair, person)
    assert set(Counter(Preference.objects.values_list("pair", flat=True)).values()) == {2}


@pytest.mark.django_db(transaction=True)
def test_complaint_4_fifteen_people_submit_at_once_and_a_submit_is_stuck() -> None:
    study = plain_study()
    make_pairs(study, 15)
    people = [make_annotator(study, f"annotator{number}") for number in range(15)]
    held = [(person, next_pair(study, person).pair) for person in people]
    together = threading.Barrier(len(held))

    def submit(person: User, pair_id: int) -> None:
        together.wait()
        try:
            pair = next(pair for _, pair in held if pair.pk == pair_id)
            record_preference(pair=pair, annotator=person, verdict=Verdict.A, client_id=uuid.uuid4())
        finally:
            connection.close()

    threads = [threading.Thread(target=submit, args=(person, pair.pk)) for person, pair in held]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert Preference.objects.count() == 15


@pytest.mark.django_db
def test_complaint_5_nothing_is_fetched_ahead_and_the_next_task_is_slow_in_large_projects() -> None:
    counts = []
    for number, pairs in enumerate((6, 60)):
        study = make_study(name=f"{pairs} pairs")
        Study.objects.filter(pk=study.pk).update(repeat_share=0)
        make_pairs(study, pairs)
        client = client_of(make_annotator(study, f"ana{number}"))
        html = page(client, study)
        ahead = client.get(reverse("label-next", args=[study.slug]), {"after": shown_pair(html)}).content
        assert shown_pair(ahead.decode()) != shown_pair(html)
        judge(client, study, html)
        counts.append(_queries_of_a_label(client, study))
    assert counts[0] == counts[1]


def _queries_of_a_label(client: Client, study: Study) -> int:
    html = page(client, study)
    with CaptureQueriesContext(connection) as queries:
        judge(client, study, html)
    return len(queries)


@pytest.mark.django_db
def test_complaint_8_skipped_tasks_come_back() -> None:
    study = plain_study()
    make_pairs(study, 4)
    ana = make_annotator(study)
    skipped = set()
    while (leased := lease_next_pair(study=study, annotator=ana)) is not None:
        assert leased.pair.pk not in skipped
        skip_pair(pair=leased.pair, annotator=ana)
        skipped.add(leased.pair.pk)
    assert len(skipped) == 4
    assert "All done" in page(client_of(ana), study)


@pytest.mark.django_db
def test_complaint_10_every_annotator_sees_the_same_side_order() -> None:
    study = plain_study(labels_per_pair=4)
    make_pair(study)
    sides = []
    for number in range(4):
        person = make_annotator(study, f"annotator{number}")
        leased = next_pair(study, person)
        label(leased.pair, person, side=leased.left_side)
        sides.append(leased.left_side)
    assert sides[0] != sides[1]
    assert sides[:2] == sides[2:]
