"""Which examples of a run its policy contradicts most: margins before and after, with the pair to review."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from annotate.models import Pair, Preference, Resolution
from training.core.run.directory import RunDirectory
from training.models import Run
from training.selectors.metrics import run_directory

FIRST = 20
NAME = re.compile(r"(pair|edit)-(\d+)")
SHORT = {"a": "A", "b": "B", "tie": "tie", "both_bad": "both bad"}


@dataclass(frozen=True)
class ContradictedExample:
    """An example with its margins (β·Δ) before the run and after it; `pair` is None when it is gone."""

    name: str
    before: float
    after: float
    pair: Pair | None
    is_edit: bool
    votes: str

    @property
    def is_contradicted(self) -> bool:
        return self.after < 0

    @property
    def decision(self) -> str:
        """Return what a lead decided on the pair, or nothing."""
        resolution: Resolution | None = getattr(self.pair, "resolution", None)
        if resolution is None:
            return ""
        return "left out" if resolution.left_out else SHORT[resolution.verdict]


def most_contradicted(run: Run, *, count: int = FIRST) -> list[ContradictedExample]:
    """Return the examples with the lowest margins after the run: three queries; none before it has ended."""
    try:
        with RunDirectory(run_directory(run)).contradictions.open("rb") as lines:
            rows = [json.loads(line) for line in islice(lines, count)]
    except FileNotFoundError:
        return []
    pair_ids = pairs_of_examples(row["id"] for row in rows)
    pairs = (
        Pair.objects.filter(study_id=run.round.study_id)
        .select_related("prompt", "resolution")
        .in_bulk(set(pair_ids.values()))
    )
    votes = votes_in_words(pairs)
    return [example_of(row, pair=pairs.get(pair_ids.get(row["id"], 0)), votes=votes) for row in rows]


@dataclass(frozen=True)
class Contradicted:
    """How many preferences a policy contradicts after its run, and on how many of them a lead decided."""

    count: int
    decided: int

    @property
    def waiting(self) -> int:
        return self.count - self.decided


def contradicted(run: Run) -> Contradicted | None:
    """Return the figures as of now: one query; None while the run has left no margins."""
    path = RunDirectory(run_directory(run)).contradictions
    try:
        written = path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    decisions = Resolution.objects.filter(pair__study=run.round.study_id)
    decided = set(decisions.values_list("pair", flat=True))
    pairs = contradicted_pairs(path, written=written)
    return Contradicted(count=len(pairs), decided=sum(pair in decided for pair in pairs))


# The file is as long as the training set, and does not change.
@lru_cache(maxsize=32)
def contradicted_pairs(path: Path, *, written: int) -> tuple[int | None, ...]:
    """Return the pair of every example with a margin below 0, None where it is gone; `written` tells files
    under one path apart.
    """
    with path.open("rb") as lines:
        rows = (json.loads(line) for line in lines)
        names = [row["id"] for row in takewhile(lambda row: row["margin_after"] < 0, rows)]
    pair_ids = pairs_of_examples(names)
    return tuple(pair_ids.get(name) for name in names)


def pairs_of_examples(names: Iterable[str]) -> dict[str, int]:
    """Return the pair of each example by the example's name; one query where there are edits."""
    parts = {name: found for name in names if (found := NAME.match(name))}
    edits = [int(found[2]) for found in parts.values() if found[1] == "edit"]
    pair_of_edit = dict(Preference.objects.filter(pk__in=edits).values_list("pk", "pair_id")) if edits else {}
    return {
        name: pair
        for name, found in parts.items()
        if (pair := int(found[2]) if found[1] == "pair" else pair_of_edit.get(int(found[2])))
    }


def votes_in_words(pairs: Iterable[int]) -> dict[int, str]:
    """Return what was said of each pair, such as "2 A, 1 tie"."""
    tallies: dict[int, Counter[str]] = defaultdict(Counter)
    for pair, verdict in Preference.objects.filter(pair__in=list(pairs)).values_list("pair", "verdict"):
        tallies[pair][verdict] += 1
    return {
        pair: ", ".join(f"{tally[verdict]} {short}" for verdict, short in SHORT.items() if tally[verdict])
        for pair, tally in tallies.items()
    }


def example_of(row: dict[str, Any], *, pair: Pair | None, votes: dict[int, str]) -> ContradictedExample:
    return ContradictedExample(
        name=row["id"],
        before=row["margin_before"],
        after=row["margin_after"],
        pair=pair,
        is_edit=row["id"].startswith("edit-"),
        votes=votes.get(pair.pk, "") if pair else "",
    )
