"""Pairs that are held though nobody works on them: found, and given back by a lead in one act."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from annotate.models import AuditEntry, Lease, Membership, Pair, Role, Study, User
from annotate.services import leases
from annotate.services.leases import is_left, open_leases, release_left
from annotate.services.queue import release_if_expired
from annotate.services.review import release_by_lead
from tests.support.labelling import make_annotator, make_pairs, make_study, make_user, next_pair

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def study() -> Study:
    study = make_study()
    make_pairs(study, 6)
    return study


def run_out(annotator: User) -> None:
    Lease.objects.filter(annotator=annotator).update(expires_at=timezone.now() - timedelta(seconds=1))


def left(study: Study) -> set[str]:
    held = open_leases(study).filter(is_left(study))
    return set(held.values_list("annotator__username", flat=True))


def test_pairs_that_ran_out_or_whose_holder_gets_none_go_back_and_others_stay(study: Study) -> None:
    people = {name: make_annotator(study, name) for name in ("ana", "ben", "cleo", "dan", "eve", "fay")}
    held = {name: next_pair(study, user).pair for name, user in people.items()}
    run_out(people["ben"])
    of = Membership.objects.filter(study=study)
    of.filter(user=people["cleo"]).delete()
    of.filter(user=people["dan"]).update(role=Role.VIEWER)
    of.filter(user=people["eve"]).update(is_paused=True)
    User.objects.filter(pk=people["fay"].pk).update(is_active=False)
    assert left(study) == {"ben", "cleo", "dan", "eve", "fay"}

    released = release_left(study=study, actor=make_user("lead"))

    assert released.by_holder == tuple((people[name], 1) for name in ("ben", "cleo", "dan", "eve", "fay"))
    assert [lease.annotator.username for lease in Lease.objects.all()] == ["ana"]
    free = Pair.objects.filter(study=study, slots_taken=0)
    assert set(free) == {pair for name, pair in held.items() if name != "ana"}
    entry = AuditEntry.objects.get(action="leases.released")
    assert (entry.details["pairs"], entry.details["held_by"]["ben"]) == (5, 1)
    # The next in line gets what came back.
    assert next_pair(study, people["ana"], beyond=held["ana"].pk).pair == held["ben"]


def test_a_superuser_labels_in_every_study_unless_paused_there(study: Study) -> None:
    root = make_user("root")
    User.objects.filter(pk=root.pk).update(is_superuser=True)
    next_pair(study, root)
    assert left(study) == set()
    membership = Membership.objects.create(study=study, user=root, role=Role.VIEWER)
    assert left(study) == set()
    Membership.objects.filter(pk=membership.pk).update(is_paused=True)
    assert left(study) == {"root"}


def test_people_of_one_name_are_written_down_one_by_one(study: Study) -> None:
    for username in ("kim-1", "kim-2"):
        kim = make_annotator(study, username)
        User.objects.filter(pk=kim.pk).update(first_name="Kim")
        next_pair(study, kim)
        run_out(kim)
    released = release_left(study=study, actor=make_user("lead"))
    assert [pairs for _, pairs in released.by_holder] == [1, 1]
    entry = AuditEntry.objects.get(action="leases.released")
    assert entry.details["held_by"] == {"kim-1": 1, "kim-2": 1}


def test_what_was_released_is_written_down_though_the_next_one_fails(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    for username in ("ana", "ben"):
        annotator = make_annotator(study, username)
        next_pair(study, annotator)
        run_out(annotator)

    def fail_the_second_time(*arguments: Any, **more: Any) -> bool:
        if Lease.objects.count() == 1:
            raise OperationalError("the database went away")
        return release_if_expired(*arguments, **more)

    monkeypatch.setattr(leases, "release_if_expired", fail_the_second_time)
    with pytest.raises(OperationalError):
        release_left(study=study, actor=make_user("lead"))
    assert AuditEntry.objects.get(action="leases.released").details["pairs"] == 1


def test_leases_of_another_study_and_on_frozen_pairs_are_left_alone(study: Study) -> None:
    other = make_study(name="Another")
    make_pairs(other, 1)
    for one in (study, other):
        next_pair(one, make_annotator(one, f"ana-{one.pk}"))
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    Pair.objects.filter(study=study).update(state=Pair.State.FROZEN)
    assert release_left(study=study, actor=make_user("lead")).pairs == 0
    assert Lease.objects.count() == 2
    assert not AuditEntry.objects.filter(action="leases.released").exists()


def test_a_pair_that_was_released_one_by_one_is_not_counted_again(study: Study) -> None:
    ana = make_annotator(study)
    next_pair(study, ana)
    run_out(ana)
    release_by_lead(lease=Lease.objects.get(), actor=make_user("lead"))
    assert release_left(study=study, actor=make_user("other-lead")).pairs == 0
