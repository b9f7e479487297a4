"""Leases and the order of the queue."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from annotate.models import Lease, Pair, Side, Study
from annotate.services.pairs import freeze_batch
from annotate.services.preferences import skip_pair
from annotate.services.queue import lease_next_pair, release_expired_leases, release_lease
from tests.support.labelling import (
    assert_slots_add_up,
    label,
    make_annotator,
    make_pair,
    make_pairs,
    make_study,
    next_pair,
)

pytestmark = pytest.mark.django_db


def expire_leases() -> None:
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def test_two_annotators_never_get_the_same_pair_when_one_label_is_wanted() -> None:
    study = make_study()
    make_pairs(study, 2)
    first = next_pair(study, make_annotator(study, "ana"))
    second = next_pair(study, make_annotator(study, "ben"))
    assert first.pair != second.pair
    assert_slots_add_up(study)


def test_the_second_annotator_gets_an_overlapped_pair() -> None:
    study = make_study(labels_per_pair=2)
    pair = make_pair(study)
    ana, ben, cy = (make_annotator(study, name) for name in ("ana", "ben", "cy"))
    assert next_pair(study, ana).pair == pair
    assert next_pair(study, ben).pair == pair
    assert lease_next_pair(study=study, annotator=cy) is None
    assert_slots_add_up(study)


def test_a_reload_or_second_tab_shows_the_same_pair_on_the_same_sides() -> None:
    study = make_study()
    make_pairs(study, 5)
    ana = make_annotator(study)
    shown = {(leased.pair.pk, leased.left_side) for leased in (next_pair(study, ana) for _ in range(4))}
    assert len(shown) == 1


def test_one_pair_is_fetched_ahead_and_no_more() -> None:
    study = make_study()
    make_pairs(study, 5)
    ana = make_annotator(study)
    current = next_pair(study, ana)
    ahead = next_pair(study, ana, beyond=current.pair.pk)
    assert ahead.pair != current.pair
    assert next_pair(study, ana, beyond=current.pair.pk).pair == ahead.pair
    assert Lease.objects.filter(annotator=ana).count() == 2
    label(current.pair, ana)
    assert next_pair(study, ana).pair == ahead.pair
    assert_slots_add_up(study)


def test_higher_priority_comes_first() -> None:
    study = make_study()
    make_pairs(study, 3)
    urgent = make_pair(study, priority=5)
    assert next_pair(study, make_annotator(study)).pair == urgent


def test_a_labelled_pair_never_comes_back_to_its_annotator() -> None:
    study = make_study(labels_per_pair=2)
    pair = make_pair(study)
    ana = make_annotator(study)
    label(next_pair(study, ana).pair, ana)
    assert lease_next_pair(study=study, annotator=ana) is None
    assert next_pair(study, make_annotator(study, "ben")).pair == pair


def test_a_skipped_pair_never_comes_back_but_goes_to_others() -> None:
    study = make_study()
    pair = make_pair(study)
    ana = make_annotator(study)
    skip_pair(pair=next_pair(study, ana).pair, annotator=ana)
    assert lease_next_pair(study=study, annotator=ana) is None
    assert_slots_add_up(study)
    assert next_pair(study, make_annotator(study, "ben")).pair == pair


def test_an_expired_lease_goes_back_to_the_queue_once() -> None:
    study = make_study()
    pair = make_pair(study)
    next_pair(study, make_annotator(study, "ana"))
    expire_leases()
    assert release_expired_leases(timezone.now()) == 1
    assert release_expired_leases(timezone.now()) == 0
    assert_slots_add_up(study)
    assert next_pair(study, make_annotator(study, "ben")).pair == pair


def test_a_live_lease_is_not_released() -> None:
    study = make_study()
    make_pair(study)
    next_pair(study, make_annotator(study, "ana"))
    assert release_expired_leases(timezone.now()) == 0
    assert Lease.objects.count() == 1


def test_nobody_is_told_that_all_is_done_because_of_a_lease_that_ran_out() -> None:
    study = make_study()
    pair = make_pair(study)
    next_pair(study, make_annotator(study, "ana"))
    expire_leases()
    assert next_pair(study, make_annotator(study, "ben")).pair == pair
    assert_slots_add_up(study)


def test_showing_a_pair_again_renews_its_lease() -> None:
    study = make_study()
    make_pair(study)
    ana = make_annotator(study)
    next_pair(study, ana)
    expire_leases()
    assert next_pair(study, ana).expires_at > timezone.now()
    assert_slots_add_up(study)


def test_releasing_gives_the_slot_back_once() -> None:
    study = make_study()
    make_pair(study)
    ana = make_annotator(study)
    pair = next_pair(study, ana).pair
    assert release_lease(pair=pair, annotator=ana)
    assert not release_lease(pair=pair, annotator=ana)
    assert_slots_add_up(study)


@pytest.mark.parametrize("state", [Study.State.PAUSED, Study.State.CLOSED])
def test_a_paused_or_closed_study_hands_out_nothing(state: Study.State) -> None:
    study = make_study()
    make_pair(study)
    study.state = state
    study.save()
    assert lease_next_pair(study=study, annotator=make_annotator(study)) is None


def test_freezing_drops_leases_and_keeps_labels() -> None:
    study = make_study(labels_per_pair=2)
    pair, other = make_pair(study), make_pair(study, batch=2)
    ana = make_annotator(study)
    label(pair, ana)
    next_pair(study, make_annotator(study, "ben"))
    assert freeze_batch(study=study, batch=1) == 1
    pair.refresh_from_db()
    assert (pair.state, pair.slots_taken) == (Pair.State.FROZEN, 1)
    assert next_pair(study, ana).pair == other
    assert_slots_add_up(study)


def test_consecutive_annotators_of_a_pair_see_opposite_sides() -> None:
    study = make_study(labels_per_pair=6)
    make_pair(study)
    annotators = [make_annotator(study, f"annotator{number}") for number in range(6)]
    sides = []
    for annotator in annotators:
        leased = next_pair(study, annotator)
        sides.append(leased.left_side)
        label(leased.pair, annotator, side=leased.left_side)
    assert sides[::2] == [sides[0]] * 3
    assert sides[1::2] == [sides[1]] * 3
    assert sides[0] != sides[1]


def test_sides_are_mixed_over_pairs() -> None:
    study = make_study()
    make_pairs(study, 40)
    ana = make_annotator(study)
    sides = []
    for _ in range(40):
        leased = next_pair(study, ana)
        sides.append(leased.left_side)
        label(leased.pair, ana, side=leased.left_side)
    # A fair coin leaves one side out of 40 pairs with probability 2 · 2^-40.
    assert set(sides) == {Side.A, Side.B}


def test_left_and_right_follow_the_side() -> None:
    study = make_study()
    pair = make_pair(study, texts=("first", "second"))
    leased = next_pair(study, make_annotator(study))
    expected = ("first", "second") if leased.left_side == Side.A else ("second", "first")
    assert (leased.left.text, leased.right.text) == expected
    assert leased.pair == pair
