"""Writers with SQLite wait for their turn at a file beside the database."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction

from annotate.gate import write_transaction
from annotate.models import Study
from tests.support.labelling import make_study

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
