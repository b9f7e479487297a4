"""Writers with SQLite wait for their turn at a file beside the database."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from django.test import Client

from annotate import gate
from annotate.gate import write_transaction
from annotate.models import Flag, Lease, Pair, Study, User, Verdict
from annotate.services.drafts import save_draft
from annotate.services.flags import flag_pair, take_skipped_pair_back, withdraw_flag
from annotate.services.preferences import skip_pair
from annotate.services.queue import release_lease
from annotate.services.resolutions import resolve_pair
from annotate.services.review import answer_flag, reassign_lease, release_by_lead, restore_pair, withdraw_pair
from tests.support.labelling import make_annotator, make_pairs, make_study, next_pair

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif("connection.vendor != 'sqlite'", reason="PostgreSQL has many writers and no gate"),
]
HOLD = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def another_writer() -> Iterator[subprocess.Popen[str]]:
    """Run a process that has its turn until it is killed."""
    command = [sys.executable, "-c", HOLD, str(writers())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def writers() -> Path:
    return Path(f"{connection.settings_dict['NAME']}.writers")


def rename(study: Study) -> None:
    with write_transaction():
        Study.objects.filter(pk=study.pk).update(name="Renamed")


def test_a_writer_waits_for_the_one_before_it_and_goes_on_when_that_one_is_killed() -> None:
    study = make_study()

    def work() -> None:
        try:
            rename(study)
        finally:
            connection.close()

    with another_writer() as other:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        assert not Study.objects.filter(name="Renamed").exists()
        other.kill()
        thread.join(timeout=60)
    assert Study.objects.filter(name="Renamed").exists()


def test_whoever_has_the_database_already_does_not_wait_for_the_file() -> None:
    study = make_study()
    with another_writer(), transaction.atomic():
        rename(study)
    assert Study.objects.filter(name="Renamed").exists()


def test_a_writer_that_fails_hands_its_turn_on() -> None:
    study = make_study()
    with pytest.raises(IntegrityError), write_transaction():
        Study.objects.create(name="Another", slug=study.slug)
    assert not Study.objects.filter(name="Another").exists()
    with writers().open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note each turn at the file, which is taken as ever."""
    taken: list[str] = []
    take = gate._file_held

    def noted(path: str):  # type: ignore[no-untyped-def]
        taken.append(path)
        return take(path)

    monkeypatch.setattr(gate, "_file_held", noted)
    return taken


def test_whatever_people_do_to_pairs_waits_for_its_turn_once(turns: list[str]) -> None:
    study = make_study()
    first, second = make_pairs(study, 2)
    ana, ben = make_annotator(study, "ana"), make_annotator(study, "ben")

    def takes_one_turn(act: Callable[[], object]) -> None:
        before = len(turns)
        act()
        assert len(turns) == before + 1

    def held_by(person: User) -> Lease:
        return Lease.objects.select_related("pair__study", "annotator").get(annotator=person)

    held = next_pair(study, ana).pair
    other = second if held == first else first
    takes_one_turn(lambda: save_draft(pair=held, annotator=ana, content={"rationale": "Kinder"}))
    takes_one_turn(lambda: flag_pair(pair=held, annotator=ana, reason=Flag.Reason.OTHER))
    takes_one_turn(lambda: withdraw_flag(pair=held, annotator=ana))
    takes_one_turn(lambda: take_skipped_pair_back(pair=held, annotator=ana))
    takes_one_turn(lambda: flag_pair(pair=held, annotator=ana, reason=Flag.Reason.OTHER))
    takes_one_turn(lambda: answer_flag(flag=Flag.objects.get(), answer="Thank you", actor=ben))
    takes_one_turn(lambda: withdraw_pair(pair=held, actor=ben))
    takes_one_turn(lambda: restore_pair(pair=held, actor=ben))
    takes_one_turn(lambda: resolve_pair(pair=held, verdict=Verdict.A, note="", actor=ben))
    assert next_pair(study, ana).pair == other
    takes_one_turn(lambda: reassign_lease(lease=held_by(ana), to=ben, actor=ben))
    takes_one_turn(lambda: release_by_lead(lease=held_by(ben), actor=ana))
    assert next_pair(study, ana).pair == other
    takes_one_turn(lambda: release_lease(pair=other, annotator=ana))
    takes_one_turn(lambda: skip_pair(pair=other, annotator=ana))
    assert Pair.objects.get(pk=other.pk).slots_taken == 0


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """Note each wait for the disk: the file, and whether another labelling request may run meanwhile."""
    noted: list[tuple[str, bool]] = []
    sync = os.fdatasync

    def note(descriptor: int) -> None:
        noted.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, not gate._turn.locked()))
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    return noted


def log_name() -> str:
    return f"{Path(connection.settings_dict['NAME']).name}-wal"


def synchronous() -> int:
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA synchronous")
        (level,) = cursor.fetchone()
    return int(level)


def test_a_commit_is_on_the_disk_when_the_transaction_has_ended(syncs: list[tuple[str, bool]]) -> None:
    full = synchronous()
    rename(make_study())
    assert syncs == [(log_name(), True)]
    assert synchronous() == full == 2


def test_a_transaction_that_fails_owes_the_disk_nothing(syncs: list[tuple[str, bool]]) -> None:
    study = make_study()
    with pytest.raises(IntegrityError), write_transaction():
        Study.objects.create(name="Another", slug=study.slug)
    assert not syncs
    assert synchronous() == 2


def test_a_label_is_on_the_disk_before_it_is_answered_and_others_label_meanwhile(
    study: Study, client: Client, syncs: list[tuple[str, bool]]
) -> None:
    make_pairs(study, 2)
    syncs.clear()
    assert client.get(f"/studies/{study.slug}/label/next/").status_code == 200
    assert syncs == [(log_name(), True)]


def test_a_label_that_the_disk_does_not_take_is_not_answered_as_saved(
    study: Study, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_pairs(study, 2)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    client.raise_request_exception = False
    assert client.get(f"/studies/{study.slug}/label/next/").status_code == 500
    monkeypatch.undo()
    assert client.get(f"/studies/{study.slug}/label/next/").status_code == 200
