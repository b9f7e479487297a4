"""The order in which labelling takes its locks: the annotator, then pairs by id, then rows that hang on a
pair.

SQLite has one writer at a time (transactions begin IMMEDIATE) and ignores these calls; PostgreSQL needs
them, and needs them in one order, so that two requests never wait for each other.
"""

from collections.abc import Iterable

from annotate.models import Pair, User


def lock_annotator(annotator: User) -> None:
    """Let one request of an annotator run at a time, whatever the number of tabs."""
    User.objects.select_for_update(no_key=True).only("pk").get(pk=annotator.pk)


def lock_pairs(pair_ids: Iterable[int]) -> None:
    """Lock pairs in the order of their ids."""
    list(
        Pair.objects.select_for_update(no_key=True)
        .filter(pk__in=list(pair_ids))
        .order_by("pk")
        .values_list("pk")
    )


def lock_pair(pair_id: int) -> Pair:
    """Lock one pair and return it fresh, with its study."""
    return Pair.objects.select_related("study").select_for_update(no_key=True, of=("self",)).get(pk=pair_id)
