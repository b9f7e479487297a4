"""Many annotators at once on a real database (SQLite, or DATABASE_URL): nothing twice, nothing lost."""

from __future__ import annotations

import random
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.errors import LabelRefused
from annotate.models import Flag, Lease, Pair, Preference, Skip, Study, User, Verdict
from annotate.services.flags import flag_pair
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import (
    Judgement,
    record_and_lease_next,
    record_preference,
    skip_and_lease_next,
    skip_pair,
)
from annotate.services.queue import act_and_lease_next, lease_next_pair, release_expired_leases, release_lease
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    next_pair,
    undo,
)

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(*tasks: Callable[[], None]) -> None:
    """Run the tasks in threads that start together; the first exception of any of them is raised."""
    barrier = threading.Barrier(len(tasks))
    failures: list[BaseException] = []

    def run(task: Callable[[], None]) -> None:
        try:
            barrier.wait()
            task()
        except BaseException as failure:  # noqa: BLE001 - handed to the test below
            failures.append(failure)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    if failures:
        raise failures[0]


def label_until_empty(study: Study, annotator: User, *, seed: int) -> None:
    """Label with the accidents of real work: double submits, undo, leases that run out under one's hands."""
    chance = random.Random(seed)
    while (leased := lease_next_pair(study=study, annotator=annotator)) is not None:
        if chance.random() < 0.1:
            Lease.objects.filter(annotator=annotator).update(expires_at=timezone.now() - timedelta(seconds=1))
            release_expired_leases(timezone.now(), study=study)
        client_id = uuid.uuid4()
        for _ in range(1 + (chance.random() < 0.2)):
            try:
                if chance.random() < 0.5:
                    judgement = Judgement(Verdict.A, client_id, shown_left=leased.left_side)
                    record_and_lease_next(judgement, pair=leased.pair, annotator=annotator, study=study)
                else:
                    record_preference(
                        pair=leased.pair,
                        annotator=annotator,
                        verdict=Verdict.A,
                        client_id=client_id,
                        shown_left=leased.left_side,
                    )
            except LabelRefused:
                break
        if chance.random() < 0.1:
            undo(study, annotator)


def test_every_pair_gets_exactly_the_labels_it_wants_from_different_people() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 40)
    annotators = [make_annotator(study, f"annotator{number}") for number in range(6)]
    at_once(*(lambda a=a, n=n: label_until_empty(study, a, seed=n) for n, a in enumerate(annotators)))
    # Whoever stopped while a colleague held the last pairs comes back; nobody may be told "all done" wrongly.
    for number, annotator in enumerate(annotators):
        label_until_empty(study, annotator, seed=100 + number)
    # Repeats of one's own pairs may have come in between; each is for one person.
    asked = Preference.objects.exclude(pair__purpose=Pair.Purpose.REPEAT)
    labels = Counter(asked.values_list("pair", flat=True))
    assert set(labels.values()) == {2}
    assert len(labels) == 40
    assert_slots_add_up(study)
    assert not Lease.objects.exists()


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="SQLite has one writer at a time")
def test_two_who_each_wait_for_the_pair_of_the_other_both_get_it() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 2)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    both = next_pair(study, ben).pair, next_pair(study, ben, beyond=next_pair(study, ben).pair.pk).pair
    held = {ana.pk: next_pair(study, ana).pair}
    held[ben.pk] = next(pair for pair in both if pair != held[ana.pk])
    release_lease(pair=held[ana.pk], annotator=ben)
    both_labelled = threading.Barrier(2)
    then: dict[int, int] = {}

    def label_and_go_on(annotator: User) -> None:
        def act() -> None:
            label(held[annotator.pk], annotator)
            both_labelled.wait(timeout=60)

        _, leased = act_and_lease_next(act, study=study, annotator=annotator)
        assert leased is not None
        then[annotator.pk] = leased.pair.pk

    at_once(lambda: label_and_go_on(ana), lambda: label_and_go_on(ben))
    assert then == {ana.pk: held[ben.pk].pk, ben.pk: held[ana.pk].pk}
    assert_slots_add_up(study)


def test_the_last_slot_goes_to_one_of_many() -> None:
    for number in range(5):
        study = make_study(name=f"Race {number}")
        make_pair(study)
        annotators = [make_annotator(study, f"racer-{number}-{n}") for n in range(5)]
        got: list[User] = []

        def take(annotator: User, study: Study = study, got: list[User] = got) -> None:
            if lease_next_pair(study=study, annotator=annotator) is not None:
                got.append(annotator)

        at_once(*(lambda a=a: take(a) for a in annotators))
        assert len(got) == 1
        assert_slots_add_up(study)


def test_many_tabs_of_one_annotator_hold_no_more_than_two_pairs_and_label_once() -> None:
    study = make_study()
    make_pairs(study, 10)
    ana = make_annotator(study)

    def tab() -> None:
        leased = lease_next_pair(study=study, annotator=ana)
        assert leased is not None
        lease_next_pair(study=study, annotator=ana, beyond=leased.pair.pk)

    at_once(*[tab] * 6)
    assert Lease.objects.filter(annotator=ana).count() == 2
    leased = lease_next_pair(study=study, annotator=ana)
    assert leased is not None
    client_id = uuid.uuid4()

    def submit() -> None:
        record_preference(pair=leased.pair, annotator=ana, verdict=Verdict.B, client_id=client_id)

    at_once(*[submit] * 6)
    assert Preference.objects.count() == 1
    assert_slots_add_up(study)


def test_an_undo_that_arrives_many_times_at_once_takes_one_label_back() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 10)
    ana = make_annotator(study)
    for _ in range(8):
        label(next_pair(study, ana).pair, ana)
    for left in range(7, -1, -1):
        client_id = uuid.uuid4()
        shown: list[Pair] = []

        def arrive(client_id: uuid.UUID = client_id, shown: list[Pair] = shown) -> None:
            shown.append(undo(study, ana, client_id=client_id).pair)

        at_once(*[arrive] * 4)
        assert len(shown) == 4
        assert len(set(shown)) == 1
        assert Preference.objects.count() == left
        assert not Preference.objects.filter(pair=shown[0]).exists()
    assert_slots_add_up(study)


def test_a_skip_and_a_flag_that_arrive_many_times_at_once_count_once() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 6)
    ana = make_annotator(study)
    for number in range(4):
        pair, client_id = next_pair(study, ana).pair, uuid.uuid4()

        def skip(pair: Pair = pair, client_id: uuid.UUID = client_id) -> None:
            skip_and_lease_next(pair=pair, annotator=ana, study=study, client_id=client_id)

        def flag(pair: Pair = pair, client_id: uuid.UUID = client_id) -> None:
            flag_pair(pair=pair, annotator=ana, reason=Flag.Reason.OTHER, client_id=client_id)

        at_once(*[skip if number % 2 else flag] * 4)
        assert Skip.objects.filter(annotator=ana).count() == number + 1
        assert Flag.objects.filter(pair=pair).count() == 1 - number % 2
        assert_slots_add_up(study)


def test_an_undo_and_late_copies_of_its_label_at_once_end_without_the_label() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 6)
    ana = make_annotator(study)
    for number in range(6):
        leased, client_id = next_pair(study, ana), uuid.uuid4()
        judgement = Judgement(Verdict.A, client_id, shown_left=leased.left_side)

        def submit(judgement: Judgement = judgement, pair: Pair = leased.pair) -> None:
            with suppress(LabelRefused):
                record_and_lease_next(judgement, pair=pair, annotator=ana, study=study)

        def take_back() -> None:
            undo(study, ana)

        submit()
        at_once(submit, take_back, submit)
        assert Preference.objects.count() == number
        label(leased.pair, ana, side=leased.left_side)
    assert_slots_add_up(study)


def test_freezing_while_people_label_leaves_no_label_behind_the_freeze() -> None:
    study = make_study()
    Study.objects.update(repeat_share=0)  # a repeat belongs to no round and is not frozen with one
    study.refresh_from_db()
    make_pairs(study, 30)
    annotators = [make_annotator(study, f"annotator{number}") for number in range(4)]
    frozen_with: list[int] = []

    def freeze() -> None:
        freeze_batch(study=study, batch=1)
        frozen_with.append(Preference.objects.count())

    def work(annotator: User) -> None:
        while (leased := lease_next_pair(study=study, annotator=annotator)) is not None:
            try:
                record_preference(
                    pair=leased.pair, annotator=annotator, verdict=Verdict.A, client_id=uuid.uuid4()
                )
            except LabelRefused:
                continue

    at_once(*(lambda a=a: work(a) for a in annotators), freeze)
    assert Preference.objects.count() == frozen_with[0]
    assert not Pair.objects.exclude(state=Pair.State.FROZEN).exists()
    assert not Lease.objects.exists()
    assert_slots_add_up(study)


def test_skips_undos_and_expiry_at_once_keep_the_slots_right() -> None:
    study = make_study(labels_per_pair=2)
    make_pairs(study, 12)
    annotators = [make_annotator(study, f"annotator{number}") for number in range(5)]

    def fidget(annotator: User, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(25):
            leased = lease_next_pair(study=study, annotator=annotator)
            if leased is None:
                break
            try:
                if chance.random() < 0.4:
                    skip_pair(pair=leased.pair, annotator=annotator)
                else:
                    record_preference(
                        pair=leased.pair, annotator=annotator, verdict=Verdict.TIE, client_id=uuid.uuid4()
                    )
                if chance.random() < 0.5:
                    undo(study, annotator)
            except LabelRefused:
                continue

    def sweep() -> None:
        for _ in range(10):
            Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
            release_expired_leases(timezone.now())

    at_once(*(lambda a=a, n=n: fidget(a, n) for n, a in enumerate(annotators)), sweep)
    assert_slots_add_up(study)
