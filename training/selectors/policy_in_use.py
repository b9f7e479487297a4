"""Which policy the loop goes on from: the one of which people ask whether it is better."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.models import Study
from training.models import Policy, Round

AT_WORK = (Round.State.COLLECTING, Round.State.TRAINING)


@dataclass(frozen=True)
class InUse:
    """What the newest round settled; `policy` is None where it settled nothing: the newest policy then.

    `why` goes on after the policy's name ("which round 3 samples").
    """

    policy: Policy | None = None
    why: str = ""


def settled_by(newest: Round | None) -> InUse:
    """Return the policy that the newest round samples, or the one chosen after it; without a query."""
    if newest is None:
        return InUse()
    if newest.state in AT_WORK:
        samples = "samples" if newest.state == Round.State.COLLECTING else "sampled"
        return InUse(newest.sampled_policy, why=f"which round {newest.number} {samples}")
    if newest.chosen_policy is None:
        return InUse()
    return InUse(newest.chosen_policy, why=f"which round {newest.number + 1} will sample")


def newest_round(study: Study) -> Round | None:
    """Return the newest round with the policy it samples and the one chosen after it: one query."""
    rounds = study.rounds.select_related("sampled_policy", "chosen_policy")
    return rounds.order_by("-number").first()


def in_use(study: Study) -> InUse:
    """Return the policy in use of a study: one query."""
    return settled_by(newest_round(study))


def way_to(policy: Policy | None, *, policies: list[Policy]) -> frozenset[int]:
    """Return the ids of the policies that rounds went on from until this one came, itself among them.

    A policy comes after the one that its round sampled, whatever its own run started from. Wants runs with
    their rounds loaded.
    """
    known = {item.pk: item for item in policies}
    found: set[int] = set()
    while policy is not None and policy.pk not in found:
        found.add(policy.pk)
        run = getattr(known.get(policy.pk, policy), "run", None)
        before = run.round.sampled_policy_id if run else policy.parent_id
        policy = known.get(before or 0)
    return frozenset(found)
