"""The length of a JSON list, counted by the database: token lists are long and only their length is shown."""

from typing import Any

from django.db.models import Func, IntegerField


class JsonLength(Func):
    """Number of elements of a JSON array column, on SQLite and PostgreSQL."""

    function = "JSON_ARRAY_LENGTH"
    output_field = IntegerField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, function="JSONB_ARRAY_LENGTH", **context)
