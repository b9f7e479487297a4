from typing import Any

from django.apps import AppConfig
from django.db import connection
from django.db.models.signals import post_migrate


class AnnotateConfig(AppConfig):
    name = "annotate"
    verbose_name = "Annotation"

    def ready(self) -> None:
        """Let every start of a newer version keep what an older one did not keep yet."""
        post_migrate.connect(keep_missing_votes, sender=self)


def keep_missing_votes(**_: Any) -> None:
    """Keep the votes of what was frozen before, unless the migration went back to where there is no place."""
    from annotate.models import FrozenVotes  # models are loaded only now
    from annotate.services import frozen_votes

    if FrozenVotes._meta.db_table in connection.introspection.table_names():
        frozen_votes.keep_missing_votes()
