"""SQLite is told how large its tables are, again whenever one has grown."""

import pytest
from django.db import connection

from annotate.models import Pair
from annotate.services.table_statistics import FEWEST_ROWS, refresh_statistics
from tests.support.labelling import make_pair, make_study

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL counts by itself"),
]


def more_pairs(like: Pair, *, count: int) -> None:
    copies = (
        Pair(
            study=like.study,
            prompt_id=like.prompt_id,
            response_a_id=like.response_a_id,
            response_b_id=like.response_b_id,
            labels_wanted=1,
            order_key=number / count,
        )
        for number in range(count)
    )
    Pair.objects.bulk_create(copies)


def counted_pairs() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT MAX(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = %s", [Pair._meta.db_table]
        )
        return int(cursor.fetchone()[0])


def test_tables_are_counted_once_one_is_large_and_again_when_it_has_grown() -> None:
    pair, gone = make_pair(study := make_study()), make_pair(study)
    more_pairs(pair, count=FEWEST_ROWS - 2)
    gone.delete()
    assert not refresh_statistics()
    more_pairs(pair, count=1)
    assert refresh_statistics()
    assert counted_pairs() == FEWEST_ROWS
    more_pairs(pair, count=FEWEST_ROWS // 10 - 1)
    assert not refresh_statistics()
    more_pairs(pair, count=1)
    assert refresh_statistics()
    assert counted_pairs() == FEWEST_ROWS + FEWEST_ROWS // 10
