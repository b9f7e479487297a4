"""What the comparison keeps so that no page measures everything: changes between policies, and figures.

Held-out sampling and scoring call `measure_policy` when they end; a page calls the others for what it finds
missing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from django.db.models import Max, Q
from django.utils import timezone

from training.comparison.texts import word_change
from training.models import Policy, PolicySummary, ResponseChange
from training.selectors.compare_query import Columns
from training.selectors.compare_texts import answered_prompts, heldout_responses, texts_of
from training.selectors.policy_summaries import counted_so_far, is_current, policies_at_work, summary_of

BATCH = 250
# A page that finds two policies uncompared measures for so long and says how far it came.
PAGE_SECONDS = 0.5
# While responses and scores still arrive, figures may be this old.
SUMMARY_AGE = timedelta(seconds=15)


def measure_policy(policy: Policy) -> None:
    """Measure how a policy's responses differ from its parent's and the reference's, and sum them up."""
    last = heldout_responses(policy).aggregate(last=Max("slot"))["last"]
    others = Policy.objects.filter(study=policy.study_id).exclude(pk=policy.pk)
    for other in others.filter(Q(number=0) | Q(children=policy)).distinct():
        for slot in range(0 if last is None else last + 1):
            measure_changes(other, policy, slot=slot, seconds=None)
    refresh_summaries([policy], tag="", seconds=None)


def measure_columns(columns: Columns, *, slot: int) -> int:
    """Measure what the compared columns lack, for as long as a page may take; returns how many are left."""
    if columns.compared is None:
        return 0
    return measure_changes(*columns.compared, slot=slot, seconds=PAGE_SECONDS)


def measure_changes(one: Policy, other: Policy, *, slot: int, seconds: float | None) -> int:
    """Store the change on each prompt that both policies have answered and that has none stored yet.

    Stops after `seconds`, where given, but not before the first batch; returns how many prompts are left.
    """
    earlier, later = sorted((one, other), key=lambda policy: policy.number)
    until = None if seconds is None else time.monotonic() + seconds
    missing = unmeasured(earlier, later, slot=slot)
    for start in range(0, len(missing), BATCH):
        if start and until is not None and time.monotonic() > until:
            return len(missing) - start
        measure_batch(earlier, later, slot=slot, prompts=missing[start : start + BATCH])
    return 0


def unmeasured(earlier: Policy, later: Policy, *, slot: int) -> list[int]:
    """Return the prompts that both have answered without a stored change, in order."""
    stored = ResponseChange.objects.filter(earlier=earlier, later=later, slot=slot)
    counts = [answered_prompts(policy, slot=slot).count() for policy in (earlier, later)]
    if stored.count() >= min(counts):
        return []
    answered = [set(answered_prompts(policy, slot=slot)) for policy in (earlier, later)]
    return sorted((answered[0] & answered[1]) - set(stored.values_list("prompt", flat=True)))


def measure_batch(earlier: Policy, later: Policy, *, slot: int, prompts: Sequence[int]) -> None:
    """Store the changes on these prompts; those that somebody else has stored meanwhile stay as they are."""
    before, after = (texts_of(policy, slot=slot, prompts=prompts) for policy in (earlier, later))
    rows = [
        ResponseChange(
            earlier=earlier,
            later=later,
            slot=slot,
            prompt_id=prompt,
            share=word_change(before[prompt], after[prompt]),
            earlier_words=len(before[prompt].split()),
            later_words=len(after[prompt].split()),
        )
        for prompt in prompts
    ]
    ResponseChange.objects.bulk_create(rows, ignore_conflicts=True)


def refresh_summaries(policies: Sequence[Policy], *, tag: str, seconds: float | None = PAGE_SECONDS) -> int:
    """Make anew the figures of the policies whose responses or scores have moved on since they were made.

    Stops after `seconds`, where given, but not before the first; returns how many policies are left.
    """
    counted = counted_so_far(policies)
    stored = {row.policy_id: row for row in PolicySummary.objects.filter(policy__in=policies, tag=tag)}
    stale = [
        policy for policy in policies if not is_current(stored.get(policy.pk), counted=counted[policy.pk])
    ]
    if not stale:
        return 0
    arriving = policies_at_work(stale)
    until = None if seconds is None else time.monotonic() + seconds
    for place, policy in enumerate(stale):
        row = stored.get(policy.pk)
        if row and policy.pk in arriving and timezone.now() - row.made_at < SUMMARY_AGE:
            continue
        if place and until is not None and time.monotonic() > until:
            return len(stale) - place
        responses, last_score = counted[policy.pk]
        values = summary_of(policy, tag=tag).as_json
        PolicySummary.objects.update_or_create(
            policy=policy,
            tag=tag,
            defaults={"responses": responses, "last_score": last_score, "values": values},
        )
    return 0
