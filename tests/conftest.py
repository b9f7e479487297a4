"""What every test gets: a database in a file, which processes can share, and a home of its own."""

from pathlib import Path

import hypothesis
import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

pytest_plugins = [
    "tests.support.engine",
    "tests.support.kept_rows",
    "tests.support.model_folder",
    "tests.support.tiny_model",
    "tests.support.valkey",
]
# A property holds however busy the machine is.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where processes share the tests, one of them has all that need the engine: it takes two cores.

    First, since pytest-xdist reads the marks in the same hook.
    """
    for item in items:
        if item.get_closest_marker("engine"):
            item.add_marker(pytest.mark.xdist_group("engine"))


@pytest.fixture(scope="session")
def django_db_modify_db_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    default = django_settings.DATABASES["default"]
    if default["ENGINE"].endswith("sqlite3"):
        default["TEST"]["NAME"] = str(tmp_path_factory.mktemp("database") / "test.sqlite3")


@pytest.fixture(autouse=True)
def studio_home(tmp_path: Path, settings: Settings) -> Path:
    """Point STUDIO_HOME at a folder of this test; nothing is written into the working tree."""
    settings.STUDIO_HOME = tmp_path / "home"
    settings.STUDIO_HOME.mkdir()
    return Path(settings.STUDIO_HOME)


@pytest.fixture(scope="session", autouse=True)
def _quick_to_start() -> None:
    """Hash passwords fast, and do not list every static file anew for each test client: hundreds are made."""
    django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    django_settings.WHITENOISE_AUTOREFRESH = True
