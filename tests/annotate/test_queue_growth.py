"""The next pair costs the same in a study of any size, and nobody is passed over because of it."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from annotate.errors import LabelRefused
from annotate.models import (
    AnnotatorProgress,
    Lease,
    Pair,
    Preference,
    QueueCursor,
    Side,
    Study,
    User,
    Verdict,
)
from annotate.services.claimable import claimable_pairs
from annotate.services.preferences import record_preference, skip_pair
from annotate.services.queue import lease_next_pair, release_expired_leases, renew_leases
from annotate.services.search import _FIRST, COUNT_LIMIT, figures_of, first_waiting
from annotate.services.slots import place_of_new_pair, put_beyond_cursors
from annotate.services.studies import StudySettings, update_settings
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

pytestmark = pytest.mark.django_db


def quiet_study(**settings: int) -> Study:
    """Return a study that makes no pairs of its own."""
    study = make_study(**settings)  # type: ignore[arg-type]
    Study.objects.update(repeat_share=0, practice_pairs=0)
    study.refresh_from_db()
    return study


def many_pairs(study: Study, count: int) -> None:
    """Add pairs that share one prompt and its responses, evenly over the queue."""
    first = make_pair(study)
    Pair.objects.bulk_create(
        Pair(
            study=study,
            prompt_id=first.prompt_id,
            response_a_id=first.response_a_id,
            response_b_id=first.response_b_id,
            labels_wanted=study.labels_per_pair,
            order_key=number / count,
        )
        for number in range(count)
    )


def judge_all_but_last(study: Study, annotator: User, *, left: int) -> None:
    """Let an annotator have labelled the queue's first pairs, each of which wants another label."""
    pairs = list(claimable_pairs(study=study, annotator=annotator))[:-left]
    Preference.objects.bulk_create(
        Preference(pair=pair, annotator=annotator, verdict=Verdict.A, shown_left=Side.A) for pair in pairs
    )
    Pair.objects.filter(pk__in=[pair.pk for pair in pairs]).update(slots_taken=1)


def steps_of_search(study: Study, annotator: User) -> int:
    """Return how many steps of its virtual machine SQLite takes to find the annotator's next pair."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(count, 1)
    try:
        first_waiting(study=study, annotator=annotator)
    finally:
        connection.connection.set_progress_handler(None, 0)
    return steps


sqlite_only = pytest.mark.skipif(
    "connection.vendor != 'sqlite'", reason="counts the steps of SQLite's machine"
)


@sqlite_only
def test_the_search_takes_as_many_steps_in_a_large_study_as_in_a_small_one() -> None:
    steps = []
    for count in (50, 5_000):
        study = make_study(name=f"{count} pairs")
        many_pairs(study, count)
        ana = make_annotator(study, f"ana-{count}")
        label(next_pair(study, ana).pair, ana)
        steps.append(steps_of_search(study, ana))
    assert steps[0] == steps[1]


@sqlite_only
def test_the_search_does_not_read_again_what_the_annotator_has_judged() -> None:
    study = quiet_study(labels_per_pair=2)
    many_pairs(study, 2_000)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    judge_all_but_last(study, ana, left=20)
    assert steps_of_search(study, ana) > 2_000
    for _ in range(2):
        label(next_pair(study, ana).pair, ana)
    label(next_pair(study, ben).pair, ben)
    assert steps_of_search(study, ana) <= steps_of_search(study, ben) + 20


def test_the_search_uses_the_queues_index_alone() -> None:
    study = make_study(labels_per_pair=2)
    many_pairs(study, 3_000)
    ana = make_annotator(study)
    label(next_pair(study, ana).pair, ana)
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute(f"{explain} {_FIRST}", {"study": study.pk, "annotator": ana.pk})
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "open_pairs_in_queue_order" in plan
    for reading_all in (
        "SCAN pair",
        "Seq Scan on annotate_pair",
        "USE TEMP B-TREE FOR ORDER BY\nSEARCH pair",
    ):
        assert reading_all not in plan, plan


def test_counting_what_is_left_stops_at_a_limit_and_says_so() -> None:
    study = make_study()
    many_pairs(study, COUNT_LIMIT + 50)
    figures = figures_of(study=study, annotator=make_annotator(study))
    assert (figures.claimable, figures.is_exact) == (COUNT_LIMIT, False)


def test_no_more_tasks_is_never_said_while_one_has_come_free_behind_the_cursor() -> None:
    study = quiet_study()
    make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    first = next_pair(study, ben)
    for _ in range(2):
        label(next_pair(study, ana).pair, ana)
    assert lease_next_pair(study=study, annotator=ana) is None
    skip_pair(pair=first.pair, annotator=ben)
    assert next_pair(study, ana).pair == first.pair


def test_a_lease_that_ran_out_comes_free_for_those_who_are_past_it() -> None:
    study = quiet_study()
    make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    first = next_pair(study, ben)
    label(next_pair(study, ana).pair, ana)
    Lease.objects.filter(annotator=ben).update(expires_at=timezone.now() - timedelta(seconds=1))
    release_expired_leases()
    assert next_pair(study, ana).pair == first.pair


def test_new_pairs_come_into_the_queue_ahead_of_everybody_and_urgent_ones_come_first() -> None:
    study = quiet_study()
    make_pairs(study, 6)
    ana = make_annotator(study)
    for _ in range(3):
        label(next_pair(study, ana).pair, ana)
    furthest = QueueCursor.objects.get(annotator=ana).order_key
    added = make_pairs(study, 6)
    assert min(pair.order_key for pair in added) > furthest
    urgent = make_pair(study, priority=3)
    assert next_pair(study, ana).pair == urgent
    label(urgent, ana)
    shown = []
    while (leased := lease_next_pair(study=study, annotator=ana)) is not None:
        label(leased.pair, ana)
        shown.append(leased.pair.pk)
    assert len(shown) == 9


@pytest.mark.parametrize(
    ("key", "furthest", "place"), [(0.2, 0.1, 0.2), (0.2, 0.2, 1.2), (0.7, 3.4, 3.7), (0.2, 3.4, 4.2)]
)
def test_a_new_pairs_place_keeps_the_fraction_of_its_key(key: float, furthest: float, place: float) -> None:
    study = make_study()
    ana = make_annotator(study)
    QueueCursor.objects.create(study=study, annotator=ana, priority=0, order_key=furthest, pair_number=1)
    assert place_of_new_pair(key, study_id=study.pk, priority=0) == pytest.approx(place)


def test_raising_the_overlap_brings_labelled_pairs_back_to_those_who_are_past_them() -> None:
    study = quiet_study()
    make_pairs(study, 4)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for annotator in (ana, ben, ana, ben):
        label(next_pair(study, annotator).pair, annotator)
    assert lease_next_pair(study=study, annotator=ana) is None
    settings = StudySettings(study.name, Study.State.ACTIVE, 2, 900, allow_tie=True, allow_both_bad=True)
    study = update_settings(study=study, settings=settings, actor=ana)
    for annotator in (ana, ana, ben, ben):
        label(next_pair(study, annotator).pair, annotator)
    assert set(Pair.objects.values_list("slots_taken", flat=True)) == {2}


def test_a_pair_that_wants_another_label_is_put_ahead_of_everybody() -> None:
    study = quiet_study()
    pair, _ = make_pairs(study, 2)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for _ in range(2):
        label(next_pair(study, ana).pair, ana)
    assert lease_next_pair(study=study, annotator=ben) is None
    Pair.objects.filter(pk=pair.pk).update(labels_wanted=2)
    put_beyond_cursors(Pair.objects.filter(pk=pair.pk))
    assert next_pair(study, ben).pair == pair
    assert lease_next_pair(study=study, annotator=ana) is None


def test_a_pair_changed_past_the_services_is_found_before_anyone_is_told_that_all_is_done() -> None:
    study = quiet_study()
    pairs = make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    for _ in range(3):
        label(next_pair(study, ben).pair, ben)
    QueueCursor.objects.create(study=study, annotator=ana, priority=0, order_key=9, pair_number=0)
    Pair.objects.filter(pk=pairs[0].pk).update(labels_wanted=2)
    assert next_pair(study, ana).pair == pairs[0]


def test_the_whole_queue_is_not_searched_by_every_poll() -> None:
    study = quiet_study()
    ana = make_annotator(study)
    label(make_pair(study), ana)
    assert lease_next_pair(study=study, annotator=ana) is None
    swept = AnnotatorProgress.objects.get(annotator=ana).sweep_after
    for _ in range(3):
        assert lease_next_pair(study=study, annotator=ana) is None
    assert AnnotatorProgress.objects.get(annotator=ana).sweep_after == swept


def test_a_reserved_pair_comes_first_and_to_nobody_else() -> None:
    study = quiet_study()
    make_pair(study, priority=9)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    mine = make_pair(study)
    Pair.objects.filter(pk=mine.pk).update(reserved_for=ana)
    assert next_pair(study, ana).pair == mine
    label(mine, ana)
    assert lease_next_pair(study=study, annotator=ben, beyond=None) is not None
    assert lease_next_pair(study=study, annotator=ana) is None


def test_a_paused_member_gets_no_pair() -> None:
    study = quiet_study()
    make_pair(study)
    ana = make_annotator(study)
    ana.memberships.update(is_paused=True)
    assert lease_next_pair(study=study, annotator=ana) is None
    ana.memberships.update(is_paused=False)
    assert lease_next_pair(study=study, annotator=ana) is not None


def test_a_heartbeat_renews_what_one_holds_and_takes_nothing() -> None:
    study = quiet_study()
    make_pairs(study, 3)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")
    held = next_pair(study, ana)
    other = next_pair(study, ben)
    soon = timezone.now() + timedelta(seconds=5)
    Lease.objects.update(expires_at=soon)
    assert set(renew_leases(study=study, annotator=ana)) == {held.pair.pk}
    assert Lease.objects.get(annotator=ana).expires_at > soon
    assert Lease.objects.get(annotator=ben, pair=other.pair).expires_at == soon
    assert Lease.objects.count() == 2


@pytest.mark.parametrize("seed", range(6))
def test_whatever_happens_nobody_is_told_that_all_is_done_while_a_pair_is_theirs_to_take(seed: int) -> None:
    chance = random.Random(seed)
    study = quiet_study(labels_per_pair=2)
    make_pairs(study, 8)
    people = [make_annotator(study, f"annotator{number}") for number in range(4)]
    told = 0
    for _ in range(150):
        annotator = chance.choice(people)
        leased = lease_next_pair(study=study, annotator=annotator)
        if leased is None:
            told += 1
            assert not claimable_pairs(study=study, annotator=annotator).exists()
        act = chance.random()
        try:
            if leased is not None and act < 0.5:
                record_preference(
                    pair=leased.pair, annotator=annotator, verdict=Verdict.A, client_id=uuid.uuid4()
                )
            elif leased is not None and act < 0.6:
                skip_pair(pair=leased.pair, annotator=annotator)
            elif act < 0.7:
                undo(study, annotator)
            elif act < 0.8:
                Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
            elif act < 0.85 and study.pairs.count() < 16:
                make_pair(study, priority=chance.choice([-1, 0, 0, 2]))
        except LabelRefused:
            pass
    assert told > 0
    assert_slots_add_up(study)
    for annotator in people:
        progress = AnnotatorProgress.objects.filter(annotator=annotator).first()
        assert progress is None or progress.labels == annotator.preferences.count()
