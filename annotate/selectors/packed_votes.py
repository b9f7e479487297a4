"""Votes as two numbers a row: reading fifty thousand of them takes most of its time for rows and values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from django.db import connection
from django.db.models import BigIntegerField, Case, ExpressionWrapper, F, QuerySet, When
from django.db.models.functions import Coalesce

from annotate.models import Preference
from annotate.quality.vote_columns import PLACE, IntArray

NUMBER = np.dtype("<i8")


@dataclass(frozen=True)
class PackedVotes:
    """The votes' pairs and, in one number, annotator, 16 bits of batch, 2 of verdict, 3 of strength, 1 of
    "simulated"; shape (votes, 2).
    """

    numbers: IntArray

    @classmethod
    def of(cls, votes: QuerySet[Preference]) -> PackedVotes:
        """Read votes: one query."""
        verdict = Case(
            *(When(verdict=said, then=place) for said, place in PLACE.items()), output_field=BigIntegerField()
        )
        simulated = Case(When(simulated_rule="", then=0), default=1, output_field=BigIntegerField())
        code = F("annotator_id") * 2**16 + F("pair__batch")
        code = ((code * 4 + verdict) * 8 + Coalesce("strength", 0)) * 2 + simulated
        rows = votes.values_list("pair_id", ExpressionWrapper(code, output_field=BigIntegerField()))
        with connection.cursor() as cursor:  # past the conversion of each value, which takes as long again
            cursor.execute(*rows.query.sql_with_params())
            return cls(np.array(cursor.fetchall(), dtype=np.int64).reshape(-1, 2))

    @classmethod
    def from_bytes(cls, kept: bytes | memoryview) -> PackedVotes:
        """Return what `as_bytes` gave."""
        return cls(np.frombuffer(kept, dtype=NUMBER).astype(np.int64).reshape(-1, 2))

    @classmethod
    def joined(cls, parts: Iterable[PackedVotes]) -> PackedVotes:
        """Return the votes of all parts."""
        return cls(np.concatenate([part.numbers for part in parts]))

    @property
    def as_bytes(self) -> bytes:
        return self.numbers.astype(NUMBER).tobytes()

    @property
    def pairs(self) -> IntArray:
        return self.numbers[:, 0]

    @property
    def batches(self) -> IntArray:
        return (self.numbers[:, 1] >> 6) & 0xFFFF

    @property
    def annotators(self) -> IntArray:
        return self.numbers[:, 1] >> 22

    @property
    def verdicts(self) -> IntArray:
        return (self.numbers[:, 1] >> 4) & 3

    @property
    def strengths(self) -> IntArray:
        return (self.numbers[:, 1] >> 1) & 7

    @property
    def simulated(self) -> IntArray:
        return self.numbers[:, 1] & 1
