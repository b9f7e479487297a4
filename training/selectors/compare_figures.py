"""The figures of a policy: length, truncation, variety, implicit reward, KL, and how its run went."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from django.db.models import Avg, Count, F, Max, Q, Sum

from annotate.models import Prompt, Split, Study
from training.models import Policy, SampledResponse, Score
from training.selectors.json_length import JsonLength


@dataclass(frozen=True)
class PolicyFigures:
    """Over a policy's own held-out responses; None where nothing has been sampled or scored yet.

    `kl` is the mean of log π − log π_ref over responses drawn from π at temperature 1: an unbiased estimate
    of KL(π‖π_ref) in nats per response. `reward` is β times it: the implicit reward of what the policy says.
    """

    policy: Policy
    beta: float
    responses: int
    samples: int
    mean_tokens: float | None
    cut_share: float | None
    distinct_2: float | None
    scored: int
    reward: float | None
    kl: float | None
    kl_per_token: float | None
    accuracy: float | None
    margin: float | None


def policy_figures(
    study: Study,
    *,
    policies: list[Policy],
    prompts: list[Prompt] | None,
    texts: dict[int, dict[int, str]],
    beta: float,
) -> list[PolicyFigures]:
    """Return the figures of each policy over `prompts`, or over all held-out prompts: two queries.

    `texts` (policy id → prompt id → text) are those that distinct-2 is counted on; `beta` is for policy 0.
    """
    among = Q(prompt__study=study, prompt__split=Split.HELDOUT)
    if prompts is not None:
        among &= Q(prompt__in=prompts)
    sampled = SampledResponse.objects.filter(among, policy__in=policies, round=None)
    own = Score.objects.filter(sampled__in=sampled, policy=F("sampled__policy"))
    lengths = by_policy(sampled.values("policy").annotate(**LENGTHS))
    scores = by_policy(own.values("policy").annotate(**SCORES))
    wanted = None if prompts is None else {prompt.pk for prompt in prompts}
    return [
        figures_of(
            policy,
            lengths=lengths.get(policy.pk, {}),
            scores=scores.get(policy.pk, {}),
            texts=[
                text
                for prompt, text in texts.get(policy.pk, {}).items()
                if wanted is None or prompt in wanted
            ],
            beta=beta,
        )
        for policy in policies
    ]


def by_policy(rows: Iterable[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    return {row["policy"]: row for row in rows}


LOG_RATIO = F("policy_logp") - F("reference_logp")
LENGTHS: dict[str, Any] = {
    "responses": Count("pk"),
    "cut": Count("pk", filter=Q(response__was_cut=True)),
    "mean_tokens": Avg(JsonLength("token_ids")),
    "last_slot": Max("slot"),
}
SCORES: dict[str, Any] = {
    "scored": Count("pk"),
    "kl": Avg(LOG_RATIO),
    "sum": Sum(LOG_RATIO),
    "tokens": Sum(JsonLength("sampled__token_ids")),
}


def figures_of(
    policy: Policy, *, lengths: Mapping[str, Any], scores: Mapping[str, Any], texts: list[str], beta: float
) -> PolicyFigures:
    run = getattr(policy, "run", None)
    result = run.result or {} if run else {}
    used = run.config.get("loss", {}).get("beta", beta) if run else beta
    kl, tokens = scores.get("kl"), scores.get("tokens")
    return PolicyFigures(
        policy=policy,
        beta=used,
        responses=lengths.get("responses", 0),
        samples=lengths.get("last_slot", 0) + 1,
        mean_tokens=lengths.get("mean_tokens"),
        cut_share=lengths["cut"] / lengths["responses"] if lengths.get("responses") else None,
        distinct_2=distinct_bigrams(texts),
        scored=scores.get("scored", 0),
        reward=None if kl is None else used * kl,
        kl=kl,
        kl_per_token=scores["sum"] / tokens if tokens else None,
        accuracy=result.get("train_accuracy"),
        margin=result.get("train_margin"),
    )


def distinct_bigrams(texts: Iterable[str]) -> float | None:
    """Return distinct-2: different word pairs over all word pairs (Li et al. 2016); None without any."""
    pairs = [pair for text in texts for pair in word_pairs(text)]
    return len(set(pairs)) / len(pairs) if pairs else None


def word_pairs(text: str) -> list[tuple[str, str]]:
    words = text.casefold().split()
    return list(pairwise(words))
