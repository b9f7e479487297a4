from typing import Any

from django.apps import AppConfig
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.db.models.signals import post_migrate


class AnnotateConfig(AppConfig):
    name = "annotate"
    verbose_name = "Annotation"

    def ready(self) -> None:
        """Let every start of a newer version keep what an older one did not keep yet."""
        post_migrate.connect(keep_missing_votes, sender=self)


def keep_missing_votes(*, using: str, **_: Any) -> None:
    """Keep the votes of what was frozen before, in the studio's database.

    Not where a migration stopped half-way or went back: the tables are not those of today's models then.
    """
    if using != DEFAULT_DB_ALIAS or not _is_up_to_date(using):
        return
    from annotate.services import frozen_votes  # models are loaded only now

    frozen_votes.keep_missing_votes()


def _is_up_to_date(alias: str) -> bool:
    loader = MigrationLoader(connections[alias])
    ours = {key for key in loader.disk_migrations if key[0] == AnnotateConfig.name}
    return ours <= loader.applied_migrations.keys()
