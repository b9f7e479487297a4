import pytest

from annotate.models import Study, User
from tests.support.browser import chromium, open_context, open_page
from tests.support.labelling import make_annotator, make_study

__all__ = ["chromium", "open_context", "open_page"]


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def ana(study: Study) -> User:
    return make_annotator(study, "ana")
