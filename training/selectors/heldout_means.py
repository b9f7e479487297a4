"""Mean length and distance of policies' held-out responses, worked out once per set of responses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.db.models import Avg, Count, F, Max, Sum

from training.models import Policy, SampledResponse, Score
from training.selectors.json_length import JsonLength

KEPT_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class HeldoutMeans:
    """Over a policy's own held-out responses; None where nothing has been sampled or scored."""

    tokens: float | None = None
    kl: float | None = None
    kl_per_token: float | None = None


def heldout_means(policies: Sequence[Policy]) -> dict[int, HeldoutMeans]:
    """Return the means by policy id: two queries, and two more when responses or scores have come since.

    A response and a score never change, so their numbers say whether what was worked out still holds.
    """
    keys = _keys(policies)
    known = cache.get_many(keys.values())
    missing = [policy for policy in policies if keys[policy.pk] not in known]
    if missing:
        found = _worked_out(missing)
        cache.set_many({keys[pk]: means for pk, means in found.items()}, timeout=KEPT_SECONDS)
        known |= {keys[pk]: means for pk, means in found.items()}
    return {policy.pk: known[keys[policy.pk]] for policy in policies}


def _keys(policies: Sequence[Policy]) -> dict[int, str]:
    responses = SampledResponse.objects.filter(policy__in=policies, round=None).order_by().values("policy")
    scores = Score.objects.filter(policy__in=policies).order_by().values("policy")
    counts = {row["policy"]: row["count"] for row in responses.annotate(count=Count("pk"))}
    newest = {row["policy"]: row["last"] for row in scores.annotate(last=Max("pk"))}
    return {
        policy.pk: f"heldout-means:{policy.served_name}:{counts.get(policy.pk, 0)}:{newest.get(policy.pk, 0)}"
        for policy in policies
    }


def _worked_out(policies: Sequence[Policy]) -> dict[int, HeldoutMeans]:
    sampled = SampledResponse.objects.filter(policy__in=policies, round=None).order_by().values("policy")
    own = Score.objects.filter(
        policy__in=policies, sampled__policy=F("policy"), sampled__round=None
    ).order_by()
    ratio = F("policy_logp") - F("reference_logp")
    lengths = _by_policy(sampled.annotate(tokens=Avg(JsonLength("token_ids"))))
    scores = _by_policy(
        own.values("policy").annotate(
            kl=Avg(ratio), sum=Sum(ratio), tokens=Sum(JsonLength("sampled__token_ids"))
        )
    )
    return {
        policy.pk: _means(lengths.get(policy.pk, {}), scores=scores.get(policy.pk, {})) for policy in policies
    }


def _by_policy(rows: Any) -> dict[int, Mapping[str, Any]]:
    return {row["policy"]: row for row in rows}


def _means(lengths: Mapping[str, Any], *, scores: Mapping[str, Any]) -> HeldoutMeans:
    tokens = scores.get("tokens")
    return HeldoutMeans(
        tokens=lengths.get("tokens"),
        kl=scores.get("kl"),
        kl_per_token=scores["sum"] / tokens if tokens else None,
    )
