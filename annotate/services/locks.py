"""The order in which labelling takes its locks: the annotator, the queue, then pairs by id, then rows that
hang on a pair.

SQLite has one writer at a time (transactions begin IMMEDIATE) and needs none of these; PostgreSQL needs
them, and needs them in one order, so that two requests never wait for each other.
"""

from django.db import connection
from django.db.models import QuerySet

from annotate.models import Pair, User
from annotate.prepared import prepare

# The first half of the advisory lock's key; the study is the second half.
QUEUE_LOCK = 0x51554555
_pair_for_update = prepare(
    lambda pair: (
        Pair.objects.select_related("study").select_for_update(no_key=True, of=("self",)).filter(pk=pair)
    )
)


def lock_annotator(annotator: User) -> None:
    """Let one request of an annotator run at a time, whatever the number of tabs."""
    if connection.features.has_select_for_update:
        User.objects.select_for_update(no_key=True).only("pk").get(pk=annotator.pk)


def lock_queue(study_id: int, *, shared: bool = False) -> None:
    """Keep pairs from entering the queue while somebody reads on in it, until the transaction ends.

    Searching for the next pair shares the lock; putting a pair (back) into the queue takes it alone: a pair
    whose return is not committed yet would otherwise be passed over for good.
    """
    if connection.vendor != "postgresql":
        return
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s, %s)", [QUEUE_LOCK, study_id % 2**31])


def lock_pairs(pairs: QuerySet[Pair]) -> None:
    """Lock pairs in the order of their ids."""
    if connection.features.has_select_for_update:
        list(pairs.select_for_update(no_key=True).order_by("pk").values_list("pk"))


def lock_pair(pair_id: int) -> Pair:
    """Lock one pair and return it fresh, with its study."""
    pair = _pair_for_update.first(pair=pair_id)
    if pair is None:
        raise Pair.DoesNotExist(f"pair {pair_id} does not exist (any more)")
    return pair
