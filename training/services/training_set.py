"""The training examples that a round's labels come to, and the receipt of what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from annotate.models import Pair, Response, Split, Verdict
from annotate.selectors.preferences import PairVotes, labelled_pairs, majority
from training.core.run.directory import DpoExample
from training.models import Round, SampledResponse

# Newer labels are about what the policy does now. The trainer scales weights to a mean of 1.
NEWEST_WEIGHT, OLDER_WEIGHT = 1.0, 0.5
CONFLICTING = "conflicting"


class HeldoutLeak(Exception):
    """A held-out prompt was about to be trained on."""


@dataclass(frozen=True)
class Receipt:
    """What went into a training set and what was left out, and why; all counts of pairs but the labels'."""

    usable: int
    ties: int
    both_bad: int
    conflicts: int
    unlabelled: int
    labels: int
    simulated_labels: int
    simulated_rules: tuple[str, ...]
    usable_per_round: dict[int, int] = field(default_factory=dict)
    weight_per_round: dict[int, float] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """Return a sentence about simulated labels, or nothing when people gave them all."""
        if not self.simulated_labels:
            return ""
        rules = ", ".join(self.simulated_rules)
        return f"{self.simulated_labels} of {self.labels} labels are simulated (rule {rules})."

    def as_json(self) -> dict[str, Any]:
        """Return the receipt as `Run.receipt` keeps it."""
        return {
            "usable": self.usable,
            "left_out": {
                "ties": self.ties,
                "both_bad": self.both_bad,
                "conflicts": self.conflicts,
                "unlabelled": self.unlabelled,
            },
            "labels": self.labels,
            "simulated_labels": self.simulated_labels,
            "simulated_rules": list(self.simulated_rules),
            "rounds": {
                str(number): {"usable": usable, "weight": self.weight_per_round[number]}
                for number, usable in sorted(self.usable_per_round.items())
            },
            "note": self.note,
        }


@dataclass(frozen=True)
class TrainingSet:
    """Examples in the order of their pairs, with their receipt."""

    examples: tuple[DpoExample, ...]
    receipt: Receipt


def build_training_set(*, round: Round) -> TrainingSet:
    """Build the examples of every label so far, up to and including the round's.

    The verdict that most votes share decides a pair; ties, "both bad" and conflicts are left out and counted.
    """
    batches = range(1, round.number + 1)
    judged = list(labelled_pairs(study=round.study, batches=batches))
    verdicts = {votes.pair.pk: verdict_of(votes) for votes in judged}
    usable = [votes for votes in judged if verdicts[votes.pair.pk] in (Verdict.A, Verdict.B)]
    sampled = _sampled_by_response(usable)
    examples = tuple(
        _example(votes.pair, verdict=verdicts[votes.pair.pk], newest=round.number, sampled=sampled)
        for votes in usable
    )
    return TrainingSet(
        examples=examples, receipt=_receipt(round, judged=judged, verdicts=verdicts, usable=usable)
    )


def verdict_of(votes: PairVotes) -> str:
    """Return the verdict that decides the pair, or "conflicting"."""
    tally = Counter(vote.verdict.value for vote in votes.votes)
    return majority(dict(tally))


def weight_of(batch: int, *, newest: int) -> float:
    return NEWEST_WEIGHT if batch == newest else OLDER_WEIGHT


def _sampled_by_response(judged: Iterable[PairVotes]) -> dict[int, SampledResponse]:
    responses = [
        response.pk for votes in judged for response in (votes.pair.response_a, votes.pair.response_b)
    ]
    rows = SampledResponse.objects.filter(response__in=responses).defer("logprobs", "settings")
    return {row.response_id: row for row in rows}


def _example(pair: Pair, *, verdict: str, newest: int, sampled: dict[int, SampledResponse]) -> DpoExample:
    if pair.prompt.split != Split.TRAIN or pair.purpose != Pair.Purpose.TRAIN:
        raise HeldoutLeak(
            f"pair {pair.pk} is not for training (prompt {pair.prompt_id}, {pair.prompt.split})"
        )
    a_is_chosen = verdict == Verdict.A
    chosen, rejected = (
        (pair.response_a, pair.response_b) if a_is_chosen else (pair.response_b, pair.response_a)
    )
    chosen_sample, rejected_sample = sampled.get(chosen.pk), sampled.get(rejected.pk)
    return DpoExample(
        id=f"pair-{pair.pk}",
        prompt=tuple(pair.prompt.messages),
        chosen=_as_message(chosen),
        rejected=_as_message(rejected),
        prompt_token_ids=tuple(chosen_sample.prompt_token_ids) if chosen_sample else None,
        chosen_token_ids=tuple(chosen_sample.token_ids) if chosen_sample else None,
        rejected_token_ids=tuple(rejected_sample.token_ids) if rejected_sample else None,
        weight=weight_of(pair.batch, newest=newest),
    )


def _as_message(response: Response) -> tuple[dict[str, Any], ...]:
    return ({"role": "assistant", "content": response.text},)


def _receipt(
    round: Round, *, judged: list[PairVotes], verdicts: dict[int, str], usable: list[PairVotes]
) -> Receipt:
    counts = Counter(verdicts.values())
    votes = [vote for pair in judged for vote in pair.votes]
    rules = sorted({vote.simulated_rule for vote in votes if vote.simulated_rule})
    per_round = Counter(pair.pair.batch for pair in usable)
    offered = Pair.objects.filter(
        study=round.study,
        batch__range=(1, round.number),
        purpose=Pair.Purpose.TRAIN,
        prompt__split=Split.TRAIN,
    ).exclude(state=Pair.State.WITHDRAWN)
    return Receipt(
        usable=len(usable),
        ties=counts[Verdict.TIE],
        both_bad=counts[Verdict.BOTH_BAD],
        conflicts=counts[CONFLICTING],
        unlabelled=offered.count() - len(judged),
        labels=len(votes),
        simulated_labels=sum(bool(vote.simulated_rule) for vote in votes),
        simulated_rules=tuple(rules),
        usable_per_round=dict(per_round),
        weight_per_round={batch: weight_of(batch, newest=round.number) for batch in per_round},
    )
