"""What SQLite knows of its tables when it chooses how to read them.

It counts rows only when told to (ANALYZE); without, it takes every index for as selective as every other, and
the home of a study of 50,000 pairs takes six times as long. PostgreSQL counts by itself.
"""

from django.db import connection

# A table with fewer rows is read quickly in any way.
FEWEST_ROWS = 1000
# Counting anew whenever a table has grown by a tenth costs, in all, about ten times the last count.
GROWTH = 1.1


def refresh_statistics() -> bool:
    """Count all tables anew if one has grown since the last time; returns whether it did.

    Each is counted in a transaction of its own: 0.1 s in all for 50,000 pairs. Connections that are open go
    on with the old figures.
    """
    if connection.vendor != "sqlite":
        return False
    tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
    counted = _counted_rows()
    if not any(_has_grown(table, counted=counted.get(table, 0)) for table in tables):
        return False
    with connection.cursor() as cursor:
        # Small ones too: SQLite takes a table that was never counted for a large one.
        for table in tables:
            cursor.execute(f"ANALYZE {connection.ops.quote_name(table)}")
    return True


def _has_grown(table: str, *, counted: int) -> bool:
    enough = max(FEWEST_ROWS, GROWTH * counted)
    # The highest row number is had at once; it is more than the rows where some were deleted.
    return _number(table, "MAX(rowid)") >= enough and _number(table, "COUNT(*)") >= enough


def _counted_rows() -> dict[str, int]:
    """Rows of each table as of its last count."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_stat1'")
        if cursor.fetchone() is None:
            return {}
        # `stat` begins with an index's rows; a partial index has fewer than its table.
        cursor.execute("SELECT tbl, MAX(CAST(stat AS INTEGER)) FROM sqlite_stat1 GROUP BY tbl")
        return {table: rows for table, rows in cursor.fetchall() if rows is not None}


def _number(table: str, what: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {what} FROM {connection.ops.quote_name(table)}")
        (found,) = cursor.fetchone()
    return found or 0
