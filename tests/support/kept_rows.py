"""Rows that all tests of a file share: made once, while what a test does to them is rolled back as ever."""

from collections.abc import Iterator

import pytest
from django.db import transaction
from pytest_django import DjangoDbBlocker


@pytest.fixture(scope="module")
def kept_rows(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Let fixtures of module scope that ask for this one write rows; they are gone after the file's tests.

    The tests of such a file run within its transaction, so none of them may be a transactional one.
    """
    with django_db_blocker.unblock(), transaction.atomic():
        yield
        transaction.set_rollback(True)
