"""The figures of all policies as small plots, each with one sentence on what to look for."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from django.core.cache import cache
from django.db.models import Count, F, Max, QuerySet

from annotate.models import Pair, Preference, Split, Study, Verdict
from training.comparison.means import Mean, mean_over_prompts
from training.comparison.plots import plot_of
from training.models import Policy, SampledResponse, Score
from training.policy_chart import Chart, Point
from training.selectors.compare_answers import beta_of
from training.selectors.kl_biases import kl_biases
from training.selectors.policy_in_use import in_use, way_to
from training.selectors.policy_summaries import FEWEST_WORD_PAIRS, Summary, stored_summaries


@dataclass(frozen=True)
class FigurePlot:
    """One figure over the policies: the picture (None without values) and the values behind it.

    `caution` says why the values are not what the title names, where that is so.
    """

    key: str
    title: str
    unit: str
    advice: str
    missing: str
    points: list[Point]
    plot: Chart | None
    caution: str = ""


@dataclass(frozen=True)
class FigureKind:
    """A figure that a summary holds: what it is called, in which unit, and what to look for."""

    key: str
    title: str
    advice: str
    value: Callable[[Summary], Mean | float | None]
    unit: str = ""
    missing: str = "Nothing has been sampled yet."


KEPT_SECONDS = 24 * 60 * 60
NO_DISTANCE = Mean(0.0, low=None, high=None, prompts=0)
NOT_SCORED = "Nothing has been scored yet: scoring follows a policy's held-out sampling by itself."
KINDS = (
    FigureKind(
        "tokens",
        "Mean length, in tokens",
        "What the gate limits. A steady climb means that longer responses win: do the judges prefer them, or "
        "only their length?",
        lambda summary: summary.length,
    ),
    FigureKind(
        "words",
        "Mean length, in words",
        "What people read. Words that fall while tokens climb mean that a policy writes strings of signs "
        "instead of text.",
        lambda summary: summary.words,
    ),
    FigureKind(
        "distinct",
        "Distinct-2, of word pairs",
        "A fall means that a policy repeats itself, within a response or from one prompt to the next. A "
        f"policy with fewer than {FEWEST_WORD_PAIRS} word pairs a response has no point: too few to count.",
        lambda summary: summary.distinct_pairs,
        missing="No policy has been sampled yet whose responses have enough word pairs to count.",
    ),
    FigureKind(
        "cut",
        "Cut at the length limit",
        "Above a few per cent the limit, not the policy, ends responses, and every other figure suffers.",
        lambda summary: summary.cut,
        unit="%",
    ),
    FigureKind(
        "kl",
        "KL to SFT, in nats a response",
        "It should rise slowly; a leap says that a run went far from the reference: a higher β holds it.",
        lambda summary: summary.kl,
        missing=NOT_SCORED,
    ),
)
PAIR_ADVICE = (
    "Above 0 a policy ranks blind evaluation pairs as the verdicts do; a fall while the training accuracy "
    "rises means overfitting."
)
PAIR_MISSING = "No judged evaluation pair has both of its responses scored under a policy yet."


def figure_plots(study: Study, *, policies: list[Policy], tag: str) -> list[FigurePlot]:
    """Return the plots over all policies, which want runs with their rounds loaded: five queries."""
    settled = in_use(study).policy
    way = way_to(settled or next(reversed(policies), None), policies=policies)
    summaries = stored_summaries(policies, tag=tag)
    if any(summary.kl for summary in summaries.values()):
        # The reference is not scored: its distance from itself is 0.
        summaries = {
            policy.pk: replace(summaries[policy.pk], kl=NO_DISTANCE)
            if policy.number == 0
            else summaries[policy.pk]
            for policy in policies
        }
    cautions = {"kl": kl_caution(policies, summaries=summaries)}
    plots = [
        plotted(
            kind,
            points=[point_of(policy, kind.value(summaries[policy.pk]), way=way) for policy in policies],
            caution=cautions.get(kind.key, ""),
        )
        for kind in KINDS
    ]
    margins = pair_margins(study, policies=policies, tag=tag)
    points = [point_of(policy, margins.get(policy.pk), way=way) for policy in policies]
    title = "Implicit reward margin on held-out pairs"
    kind = FigureKind("pairs", title, PAIR_ADVICE, lambda summary: None, missing=PAIR_MISSING)
    return [*plots, plotted(kind, points=points)]


def plotted(kind: FigureKind, *, points: list[Point], caution: str = "") -> FigurePlot:
    plot = plot_of(kind.title, points, unit=kind.unit)
    return FigurePlot(kind.key, kind.title, kind.unit, kind.advice, kind.missing, points, plot, caution)


def kl_caution(policies: Sequence[Policy], *, summaries: Mapping[int, Summary]) -> str:
    """Return why the KL of some policies is biased, and of which: one query."""
    biases = kl_biases(policies)
    scored = [policy for policy in policies if policy.number and summaries[policy.pk].kl]
    concerned: dict[str, list[Policy]] = defaultdict(list)
    for policy in scored:
        if biases[policy.pk]:
            concerned[biases[policy.pk]].append(policy)
    if [len(found) for found in concerned.values()] == [len(scored)]:
        return next(iter(concerned))
    return " ".join(
        f"{', '.join(policy.label for policy in found)}: {bias}" for bias, found in concerned.items()
    )


def point_of(policy: Policy, value: Mean | float | None, *, way: frozenset[int]) -> Point:
    label, aside = "SFT" if policy.number == 0 else str(policy.number), policy.pk not in way
    if isinstance(value, Mean):
        return Point(label, value.value, value.low, value.high, is_aside=aside)
    return Point(label, value, is_aside=aside)


def pair_margins(study: Study, *, policies: Sequence[Policy], tag: str) -> dict[int, Mean]:
    """Return by policy id the mean margin on held-out pairs that a verdict decided: two queries.

    Worked out anew only when verdicts or scores have come since: two more queries then.
    """
    decided = evaluation_verdicts(study).aggregate(count=Count("pk"), newest=Max("updated_at"))
    scored = Score.objects.filter(policy__in=policies).aggregate(newest=Max("pk"))
    state = f"{decided['count']}:{decided['newest']}:{scored['newest']}:{len(policies)}:{tag}"
    digest = hashlib.sha256(state.encode()).hexdigest()[:24]
    key = f"pair-margins:{study.slug}:{study.created_at.timestamp()}:{digest}"
    known = cache.get(key)
    if known is None:
        known = worked_out_margins(study, policies=policies, tag=tag)
        cache.set(key, known, timeout=KEPT_SECONDS)
    return dict(known)


def worked_out_margins(study: Study, *, policies: Sequence[Policy], tag: str) -> dict[int, Mean]:
    """Return the means of β·(Δchosen − Δrejected), Δ being log π − log π_ref of a response under the policy.

    Only pairs whose two responses are both scored under the policy count; the reference's margins are all 0
    and are left out.
    """
    decided = decided_pairs(study, tag=tag)
    wanted = {response for _, chosen, rejected in decided for response in (chosen, rejected)}
    sampled = dict(SampledResponse.objects.filter(response__in=wanted).values_list("pk", "response_id"))
    ratios: dict[int, dict[int, float]] = defaultdict(dict)
    scores = Score.objects.filter(policy__in=policies, sampled__in=sampled).order_by()
    for policy, pk, ratio in scores.values_list(
        "policy_id", "sampled_id", F("policy_logp") - F("reference_logp")
    ):
        ratios[policy][sampled[pk]] = ratio
    beta = study.recipe.beta
    margins = {
        policy.pk: margin_of(decided, ratios=ratios[policy.pk], beta=beta_of(policy, default=beta))
        for policy in policies
    }
    return {pk: mean for pk, mean in margins.items() if mean is not None}


def margin_of(
    decided: list[tuple[int, int, int]], *, ratios: Mapping[int, float], beta: float
) -> Mean | None:
    return mean_over_prompts(
        (prompt, beta * (ratios[chosen] - ratios[rejected]))
        for prompt, chosen, rejected in decided
        if chosen in ratios and rejected in ratios
    )


def evaluation_verdicts(study: Study) -> QuerySet[Preference]:
    """Return the verdicts for a side on the study's blind pairs of held-out prompts."""
    return Preference.objects.filter(
        pair__study=study,
        pair__purpose=Pair.Purpose.EVALUATE,
        pair__prompt__split=Split.HELDOUT,
        verdict__in=(Verdict.A, Verdict.B),
    ).exclude(pair__state=Pair.State.WITHDRAWN)


def decided_pairs(study: Study, *, tag: str) -> list[tuple[int, int, int]]:
    """Return (prompt id, chosen response id, rejected response id) of each verdict for a side: one query."""
    columns = (
        "pair__prompt_id",
        "pair__prompt__tags",
        "verdict",
        "pair__response_a_id",
        "pair__response_b_id",
    )
    return [
        (prompt, a, b) if verdict == Verdict.A else (prompt, b, a)
        for prompt, tags, verdict, a, b in evaluation_verdicts(study).order_by().values_list(*columns)
        if not tag or tag in tags
    ]
