"""What every test gets: a database in a file, which processes can share, and a home of its own."""

from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.conf import settings as django_settings
from pytest_django import Settings
from xdist.scheduler import LoadScopeScheduling

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


class OneEngine(LoadScopeScheduling):  # type: ignore[misc]
    """Tests one by one to whichever process is free, but all files that need the engine to one of them.

    An engine takes two cores. Groups made with pytest-xdist's own marks are no groups under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        return "engine" if needs_engine(nodeid.partition("::")[0]) else nodeid


@cache
def needs_engine(path: str) -> bool:
    return "pytest.mark.engine" in (django_settings.BASE_DIR / path).read_text(encoding="utf-8")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> OneEngine | None:
    return OneEngine(config, log) if config.getvalue("dist") == "loadscope" else None


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
