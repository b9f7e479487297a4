"""Which response stands on the left: decided here, never in the browser."""

import secrets

from django.db import connection
from django.utils.crypto import constant_time_compare, salted_hmac

from annotate.models import Lease, Pair, Preference, PreferenceRevision, Side, User

OPPOSITE = {Side.A: Side.B, Side.B: Side.A}
# What is held is later than what was judged.
_LOOKS = f"""
SELECT 1, id, annotator_id, left_side FROM {Lease._meta.db_table} WHERE pair_id = %s
UNION ALL
SELECT 0, id, annotator_id, shown_left FROM {PreferenceRevision._meta.db_table} WHERE pair_id = %s
ORDER BY 1 DESC, 2 DESC
"""


def choose_left_side(*, pair: Pair, annotator: User) -> Side:
    """Return the opposite of what the latest other annotator of the pair saw, or a coin flip when there is
    none.

    Someone who has seen the pair before sees it as before; a repeat of a pair that they judged shows it the
    other way round.
    """
    if pair.purpose == Pair.Purpose.REPEAT:
        return _opposite_of_first_look(pair, annotator=annotator)
    others: list[Side] = []
    for annotator_id, side in _looks_at(pair):
        if annotator_id == annotator.pk:
            return Side(side)
        others.append(Side(side))
    return OPPOSITE[others[0]] if others else secrets.choice([Side.A, Side.B])


def _looks_at(pair: Pair) -> list[tuple[int, str]]:
    """Return who was shown the pair with which side on the left, the latest look first."""
    with connection.cursor() as cursor:
        cursor.execute(_LOOKS, [pair.pk, pair.pk])
        return [(annotator_id, side) for _, _, annotator_id, side in cursor.fetchall()]


def _opposite_of_first_look(repeat: Pair, *, annotator: User) -> Side:
    first = Preference.objects.filter(pair=repeat.original_id, annotator=annotator).first()
    return OPPOSITE[Side(first.shown_left)] if first else secrets.choice([Side.A, Side.B])


def side_token(*, pair_id: int, annotator_id: int, left_side: Side) -> str:
    """Name the sides a person was shown, without telling which, so that a label outlives its lease."""
    return salted_hmac(
        "annotate.sides", f"{pair_id}:{annotator_id}:{left_side.value}", algorithm="sha256"
    ).hexdigest()


def side_of_token(token: str, *, pair_id: int, annotator_id: int) -> Side | None:
    """Return the side that `side_token` named; None when the token belongs to another pair or person."""
    for side in Side:
        if constant_time_compare(
            token, side_token(pair_id=pair_id, annotator_id=annotator_id, left_side=side)
        ):
            return side
    return None
