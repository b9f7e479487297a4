"""Tests take their tables from the models, which is quicker; here migrations are held to them."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

Tables = dict[str, set[tuple[str, str, bool]]]
COLUMNS = "SELECT name, type, \"notnull\" FROM pragma_table_info('{table}')"
TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
INDEXES = "SELECT name FROM sqlite_master WHERE type = 'index' AND name NOT LIKE 'sqlite_%'"
# Which migrations have run is written down by migrations alone.
OF_MIGRATIONS = "django_migrations"


def migrated(home: Path) -> sqlite3.Connection:
    """Migrate a new database from nothing."""
    environment = os.environ | {"STUDIO_HOME": str(home), "DATABASE_URL": f"sqlite:///{home / 'new.sqlite3'}"}
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--no-input", "--verbosity", "0"],
        cwd=settings.BASE_DIR,
        env=environment,
        check=True,
    )
    return sqlite3.connect(home / "new.sqlite3")


def tables_of(database: sqlite3.Connection) -> Tables:
    names = [name for (name,) in database.execute(TABLES) if name != OF_MIGRATIONS]
    return {
        table: {
            (name, kind, bool(notnull))
            for name, kind, notnull in database.execute(COLUMNS.format(table=table))
        }
        for table in names
    }


def indexes_of(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute(INDEXES)}


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="the schema is read as SQLite keeps it")
def test_migrations_make_the_tables_and_indexes_of_the_models(tmp_path: Path) -> None:
    connection.ensure_connection()
    of_models = connection.connection
    of_migrations = migrated(tmp_path)
    assert "annotate_pair" in tables_of(of_models)
    assert tables_of(of_migrations) == tables_of(of_models)
    assert indexes_of(of_migrations) == indexes_of(of_models)
    of_migrations.close()
