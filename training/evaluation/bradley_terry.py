"""Bradley–Terry strengths of all policies on one scale (Bradley and Terry 1952). No Django."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from training.evaluation.fits import Floats, fit_logistic, fit_many, resampled_counts
from training.evaluation.outcomes import Outcome

RESAMPLES = 300
# A weak pull to the middle, worth about a tenth of a verdict: it keeps a strength finite where a policy has
# won or lost everything, and shrinks the others by less than their intervals can show.
RIDGE = 0.02


@dataclass(frozen=True)
class Strength:
    """A policy's log-odds of winning against the reference, in nats, with its 95 % bootstrap interval."""

    policy: int
    value: float
    low: float
    high: float
    verdicts: int
    won_or_lost_all: bool


@dataclass(frozen=True)
class Strengths:
    """The strengths of the policies that verdicts connect with the reference, and what cannot be placed."""

    rows: tuple[Strength, ...]
    unconnected: tuple[int, ...]
    sentence: str


@dataclass(frozen=True)
class Counts:
    """Points and trials of each pairing on each prompt: the content that the fit depends on."""

    rows: tuple[tuple[int, int, int, float, int], ...]


def strengths(outcomes: Sequence[Outcome], *, policies: Sequence[int], reference: int) -> Strengths:
    """Return the strengths of `policies` with the reference's set to 0, ties at half.

    Policies that no chain of verdicts connects with the reference have none; they are named.
    """
    rows = pairings(outcomes)
    reached = connected({(row[0], row[1]) for row in rows}, start=reference)
    unconnected = tuple(policy for policy in policies if policy not in reached)
    kept = tuple(row for row in rows if row[0] in reached)
    if not kept:
        return Strengths((), unconnected, "No verdict connects a policy with the SFT reference yet.")
    fitted = fitted_strengths(Counts(kept), reference=reference)
    return Strengths(fitted, unconnected, _sentence(fitted))


def pairings(outcomes: Sequence[Outcome]) -> tuple[tuple[int, int, int, float, int], ...]:
    """Return (policy, opponent, prompt, points, trials), added up and in order."""
    sums: dict[tuple[int, int, int], list[float]] = defaultdict(lambda: [0.0, 0])
    for row in outcomes:
        if row.judged:
            entry = sums[row.policy, row.opponent, row.prompt]
            entry[0] += row.points
            entry[1] += row.judged
    return tuple((*key, points, int(trials)) for key, (points, trials) in sorted(sums.items()))


def connected(edges: set[tuple[int, int]], *, start: int) -> set[int]:
    """Return what can be reached from `start` over pairings, whoever won."""
    reached, frontier = {start}, {start}
    while frontier:
        frontier = {b for a, b in edges if a in frontier} | {a for a, b in edges if b in frontier}
        frontier -= reached
        reached |= frontier
    return reached


# Keyed by the counts themselves, so that a page that is loaded twice is computed once.
@lru_cache(maxsize=64)
def fitted_strengths(counts: Counts, *, reference: int) -> tuple[Strength, ...]:
    """Return the maximum a posteriori strengths, with intervals by bootstrap over prompts."""
    items = sorted({row[0] for row in counts.rows} | {row[1] for row in counts.rows} | {reference})
    place = {item: column for column, item in enumerate(items)}
    games, design = _games(counts, place=place)
    points, trials = _by_prompt(counts, games=games)
    ridge = np.full(len(items), RIDGE)
    value = fit_logistic(design, points=points.sum(0), trials=trials.sum(0), ridge=ridge)
    draws = resampled_counts(len(points), resamples=RESAMPLES)
    many = fit_many(design, points=draws @ points, trials=draws @ trials, ridge=ridge, start=value)
    zero = place[reference]
    value, many = value - value[zero], many - many[:, [zero]]
    low, high = np.quantile(many, [0.025, 0.975], axis=0)
    won, played = _totals(counts)
    return tuple(
        Strength(
            policy=item,
            value=float(value[column]),
            low=float(min(low[column], value[column])),
            high=float(max(high[column], value[column])),
            verdicts=played[item],
            won_or_lost_all=won[item] in (0.0, float(played[item])),
        )
        for item, column in place.items()
    )


def _games(counts: Counts, *, place: dict[int, int]) -> tuple[list[tuple[int, int]], Floats]:
    """Return the pairings and a row of +1 (policy) and −1 (opponent) for each."""
    games = sorted({(row[0], row[1]) for row in counts.rows})
    design = np.zeros((len(games), len(place)))
    for number, (policy, opponent) in enumerate(games):
        design[number, place[policy]], design[number, place[opponent]] = 1.0, -1.0
    return games, design


def _by_prompt(counts: Counts, *, games: list[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Return points and trials as (prompts, games)."""
    prompts = {prompt: number for number, prompt in enumerate(sorted({row[2] for row in counts.rows}))}
    column = {game: number for number, game in enumerate(games)}
    points, trials = np.zeros((len(prompts), len(games))), np.zeros((len(prompts), len(games)))
    for policy, opponent, prompt, won, played in counts.rows:
        points[prompts[prompt], column[policy, opponent]] += won
        trials[prompts[prompt], column[policy, opponent]] += played
    return points, trials


def _totals(counts: Counts) -> tuple[dict[int, float], dict[int, int]]:
    won: dict[int, float] = defaultdict(float)
    played: dict[int, int] = defaultdict(int)
    for policy, opponent, _, points, trials in counts.rows:
        won[policy] += points
        won[opponent] += trials - points
        played[policy] += trials
        played[opponent] += trials
    return won, played


def _sentence(rows: tuple[Strength, ...]) -> str:
    if any(row.won_or_lost_all for row in rows):
        return (
            "At least one policy has won or lost every verdict. Its true strength has no bound in the data; "
            "a weak pull to the middle keeps the figure finite, so read the order, not the size."
        )
    return ""
