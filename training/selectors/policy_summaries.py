"""Figures over a policy's held-out responses: worked out once, then read from where they are kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from django.core.cache import cache
from django.db.models import Count, F, Max

from annotate.models import Prompt, Split
from training.comparison.means import Mean, mean_over_prompts, share_over_prompts
from training.comparison.texts import distinct_n
from training.models import Job, Policy, PolicySummary, SampledResponse, Score
from training.selectors.compare_texts import heldout_responses
from training.selectors.json_length import JsonLength

DISTINCT = (1, 2, 3)
REMEMBERED_SECONDS = 60 * 60
# With fewer word pairs a response nothing can repeat itself: distinct-2 would be 1 for a policy of one word.
FEWEST_WORD_PAIRS = 2
# Counted of a policy that has neither held-out responses nor scores.
NOTHING = (0, 0)


@dataclass(frozen=True)
class Summary:
    """Over a policy's own held-out responses; None where nothing has been sampled or scored yet.

    `kl` is the mean of log π − log π_ref over responses drawn from π: at temperature 1 an unbiased estimate
    of KL(π‖π_ref) in nats per response. `length` is in tokens. `distinct` holds distinct-1, -2, -3, each
    counted within one sample of every prompt and averaged over the samples.
    """

    responses: int = 0
    samples: int = 0
    length: Mean | None = None
    words: Mean | None = None
    cut: Mean | None = None
    distinct: tuple[float | None, ...] = (None, None, None)
    scored: int = 0
    kl: Mean | None = None
    kl_per_token: float | None = None

    @property
    def tokens(self) -> float | None:
        """Return the mean length in tokens."""
        return self.length.value if self.length else None

    @property
    def has_few_word_pairs(self) -> bool:
        """Whether a response has too few word pairs on average (words − 1) to say that they differ."""
        return self.words is not None and self.words.value - 1 < FEWEST_WORD_PAIRS

    @property
    def distinct_pairs(self) -> float | None:
        """Return distinct-2; None also where there are too few word pairs to count."""
        return None if self.has_few_word_pairs else self.distinct[1]

    @property
    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> Summary:
        means = {name: Mean(**values[name]) if values[name] else None for name in MEANS}
        return Summary(**{**values, **means, "distinct": tuple(values["distinct"])})


MEANS = ("length", "words", "cut", "kl")
FIGURES = {field.name for field in fields(Summary)}


def counted_so_far(policies: Sequence[Policy]) -> dict[int, tuple[int, int]]:
    """Return by policy how many held-out responses it has and the id of its newest score: two queries."""
    responses = SampledResponse.objects.filter(policy__in=policies, round=None).order_by().values("policy")
    scores = Score.objects.filter(policy__in=policies).order_by().values("policy")
    counts = {row["policy"]: row["count"] for row in responses.annotate(count=Count("pk"))}
    newest = {row["policy"]: row["last"] for row in scores.annotate(last=Max("pk"))}
    return {policy.pk: (counts.get(policy.pk, 0), newest.get(policy.pk, 0)) for policy in policies}


def is_current(row: PolicySummary | None, *, counted: tuple[int, int]) -> bool:
    return row is not None and holds_all_figures(row) and (row.responses, row.last_score) == counted


def holds_all_figures(row: PolicySummary) -> bool:
    """Return whether it was kept with the figures of today: another version may have kept others."""
    return set(row.values) == FIGURES


def stored_summaries(policies: Sequence[Policy], *, tag: str) -> dict[int, Summary]:
    """Return the kept figures by policy id; a policy without any has those of no responses."""
    rows = PolicySummary.objects.filter(policy__in=policies, tag=tag)
    kept = {row.policy_id: Summary.from_json(row.values) for row in rows if holds_all_figures(row)}
    return {policy.pk: kept.get(policy.pk, Summary()) for policy in policies}


def heldout_summaries(policies: Sequence[Policy]) -> dict[int, Summary]:
    """Return the figures over all held-out responses by policy id: three queries while the kept ones hold.

    What is kept of a policy whose responses or scores are still arriving may be a little behind; what nobody
    has kept is worked out, and remembered until more arrives.
    """
    counted = counted_so_far(policies)
    rows = {row.policy_id: row for row in PolicySummary.objects.filter(policy__in=policies, tag="")}
    moved_on = [item for item in policies if not is_current(rows.get(item.pk), counted=counted[item.pk])]
    arriving = policies_at_work(moved_on) if moved_on else set()
    found = {pk: Summary.from_json(row.values) for pk, row in rows.items() if holds_all_figures(row)}
    for policy in moved_on:
        if counted[policy.pk] == NOTHING or policy.pk in arriving:
            found.setdefault(policy.pk, Summary())
        else:
            found[policy.pk] = remembered_summary(policy, counted=counted[policy.pk])
    return found


def remembered_summary(policy: Policy, *, counted: tuple[int, int]) -> Summary:
    key = f"heldout-figures:{policy.served_name}:{counted}".replace(" ", "")
    known: Summary | None = cache.get(key)
    if known is None:
        known = summary_of(policy, tag="")
        cache.set(key, known, timeout=REMEMBERED_SECONDS)
    return known


def policies_at_work(policies: Sequence[Policy]) -> set[int]:
    """Return those whose held-out responses or scores are still arriving: one query."""
    kinds, states = (Job.Kind.HELDOUT, Job.Kind.SCORING), (Job.State.QUEUED, Job.State.RUNNING)
    jobs = Job.objects.filter(policy__in=policies, kind__in=kinds, state__in=states)
    return set(jobs.values_list("policy", flat=True))


def summary_of(policy: Policy, *, tag: str) -> Summary:
    """Work the figures out from the responses and scores themselves: three queries, all of the texts."""
    wanted = tagged_prompts(policy, tag=tag)
    columns = ("prompt_id", "slot", "response__text", "response__was_cut", JsonLength("token_ids"))
    rows = [row for row in heldout_responses(policy).order_by().values_list(*columns) if row[0] in wanted]
    texts: dict[int, list[str]] = defaultdict(list)
    for _, slot, text, _, _ in rows:
        texts[slot].append(text)
    return Summary(
        responses=len(rows),
        samples=max(texts, default=-1) + 1,
        length=mean_over_prompts((prompt, float(tokens)) for prompt, _, _, _, tokens in rows),
        words=mean_over_prompts((prompt, float(len(text.split()))) for prompt, _, text, _, _ in rows),
        cut=share_over_prompts((prompt, float(was_cut)) for prompt, _, _, was_cut, _ in rows),
        distinct=tuple(distinct_over_samples(texts, n=n) for n in DISTINCT),
        **divergence(policy, wanted=wanted),
    )


def tagged_prompts(policy: Policy, *, tag: str) -> set[int]:
    prompts = Prompt.objects.filter(study=policy.study_id, split=Split.HELDOUT).order_by()
    return {pk for pk, tags in prompts.values_list("pk", "tags") if not tag or tag in tags}


def distinct_over_samples(texts: Mapping[int, list[str]], *, n: int) -> float | None:
    shares = [share for sample in texts.values() if (share := distinct_n(sample, n=n)) is not None]
    return sum(shares) / len(shares) if shares else None


def divergence(policy: Policy, *, wanted: set[int]) -> dict[str, Any]:
    """Return the figures that come from the policy's scores of its own held-out responses."""
    own = Score.objects.filter(policy=policy, sampled__policy=policy, sampled__round=None).order_by()
    log_ratio = F("policy_logp") - F("reference_logp")
    columns = ("sampled__prompt_id", log_ratio, JsonLength("sampled__token_ids"))
    rows = [row for row in own.values_list(*columns) if row[0] in wanted]
    tokens = sum(row[2] for row in rows)
    return {
        "scored": len(rows),
        "kl": mean_over_prompts((prompt, ratio) for prompt, ratio, _ in rows),
        "kl_per_token": sum(row[1] for row in rows) / tokens if tokens else None,
    }
