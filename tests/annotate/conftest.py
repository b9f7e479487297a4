"""One study and one annotator, as most tests of the labelling screen need them."""

from __future__ import annotations

import pytest
from django.test import Client

from annotate.models import Study, User
from tests.support.labelling import make_annotator, make_study
from tests.support.people import client_of


@pytest.fixture
def study(db: None) -> Study:
    return make_study()


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")


@pytest.fixture
def client(ana: User) -> Client:
    return client_of(ana)
