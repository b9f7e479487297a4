"""The training examples that a round's labels come to, and the receipt of what was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from annotate.models import Pair, Response, Side, Split, Verdict
from annotate.selectors.preferences import LEFT_OUT, PairVotes, Vote, labelled_pairs, majority
from training.core.run.directory import DpoExample
from training.models import Round, SampledResponse
from training.services.recipes import uses_ties

# Newer labels are about what the policy does now. The trainer scales weights to a mean of 1.
NEWEST_WEIGHT, OLDER_WEIGHT = 1.0, 0.5
# An edit says one thing of one response, as a vote does: it weighs as much as a pair of its round.
EDIT_WEIGHT = 1.0
CONFLICTING = "conflicting"
UNLABELLED = "unlabelled"


class HeldoutLeak(Exception):
    """A held-out prompt was about to be trained on."""


@dataclass(frozen=True)
class Receipt:
    """What went into a training set and what was left out, and why; all counts of pairs but the labels'.

    `edits` counts the examples that annotators wrote (edited ≻ original), `resolved` the pairs that a lead's
    verdict decided, `ignored_labels` the labels of people who are left out of training sets.
    """

    usable: int
    ties: int
    both_bad: int
    conflicts: int
    unlabelled: int
    labels: int
    simulated_labels: int
    simulated_rules: tuple[str, ...]
    edits: int = 0
    resolved: int = 0
    left_out_by_lead: int = 0
    ignored_labels: int = 0
    ties_used: int = 0
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
                "left_out_by_lead": self.left_out_by_lead,
            },
            "ties_used": self.ties_used,
            "edits": self.edits,
            "resolved_by_lead": self.resolved,
            "ignored_labels": self.ignored_labels,
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

    A lead's verdict decides a pair, else the verdict that most votes share; "both bad" and conflicts are left
    out and counted, and so are ties unless the recipe's loss learns from them. Each edit adds an example of
    its own: the edited text is preferred to the response that it was made of.
    """
    batches = range(1, round.number + 1)
    judged = list(labelled_pairs(study=round.study, batches=batches))
    verdicts = {votes.pair.pk: verdict_of(votes) for votes in judged}
    wanted = {Verdict.A, Verdict.B} | ({Verdict.TIE} if uses_ties(round.study.recipe) else set())
    usable = [votes for votes in judged if verdicts[votes.pair.pk] in wanted]
    edited = [(votes, vote) for votes in judged for vote in edits_of(votes)]
    sampled = _sampled_by_response([*usable, *(votes for votes, _ in edited)])
    examples = [
        _example(votes.pair, verdict=verdicts[votes.pair.pk], newest=round.number, sampled=sampled)
        for votes in usable
    ]
    examples += [
        _edit_example(votes.pair, vote=vote, newest=round.number, sampled=sampled) for votes, vote in edited
    ]
    receipt = _receipt(round, judged=judged, verdicts=verdicts, usable=usable, edits=len(edited))
    return TrainingSet(examples=tuple(examples), receipt=receipt)


def verdict_of(votes: PairVotes) -> str:
    """Return the verdict that decides the pair, or "conflicting", "unlabelled" or "left_out"."""
    if votes.decision is not None:
        return votes.decision.verdict or LEFT_OUT
    tally = Counter(vote.verdict.value for vote in votes.votes)
    return majority(dict(tally)) if tally else UNLABELLED


def edits_of(votes: PairVotes) -> list[Vote]:
    """Return the votes that come with a better text than the response they edited."""
    if votes.decision is not None and votes.decision.verdict is None:
        return []
    return [
        vote
        for vote in votes.votes
        if vote.edited_side
        and vote.edited_text.strip() not in ("", _edited(votes.pair, vote=vote).text.strip())
    ]


def weight_of(batch: int, *, newest: int) -> float:
    return NEWEST_WEIGHT if batch == newest else OLDER_WEIGHT


def _sampled_by_response(judged: Iterable[PairVotes]) -> dict[int, SampledResponse]:
    responses = [
        response.pk for votes in judged for response in (votes.pair.response_a, votes.pair.response_b)
    ]
    rows = SampledResponse.objects.filter(response__in=responses).defer("logprobs", "settings")
    return {row.response_id: row for row in rows}


def _example(pair: Pair, *, verdict: str, newest: int, sampled: dict[int, SampledResponse]) -> DpoExample:
    _check_trainable(pair)
    # Of a tie neither is chosen: the loss is the same either way round.
    a_is_chosen = verdict in (Verdict.A, Verdict.TIE)
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
        tie=verdict == Verdict.TIE,
    )


def _edit_example(pair: Pair, *, vote: Vote, newest: int, sampled: dict[int, SampledResponse]) -> DpoExample:
    """Edited ≻ original. Nobody sampled the edit, so the trainer encodes its text and ends it."""
    _check_trainable(pair)
    original = _edited(pair, vote=vote)
    sample = sampled.get(original.pk)
    return DpoExample(
        id=f"edit-{vote.preference_id}",
        prompt=tuple(pair.prompt.messages),
        chosen=({"role": "assistant", "content": vote.edited_text},),
        rejected=_as_message(original),
        prompt_token_ids=tuple(sample.prompt_token_ids) if sample else None,
        rejected_token_ids=tuple(sample.token_ids) if sample else None,
        weight=EDIT_WEIGHT * weight_of(pair.batch, newest=newest),
    )


def _edited(pair: Pair, *, vote: Vote) -> Response:
    return pair.response_a if vote.edited_side == Side.A else pair.response_b


def _check_trainable(pair: Pair) -> None:
    if pair.prompt.split != Split.TRAIN or pair.purpose != Pair.Purpose.TRAIN:
        raise HeldoutLeak(
            f"pair {pair.pk} is not for training (prompt {pair.prompt_id}, {pair.prompt.split})"
        )


def _as_message(response: Response) -> tuple[dict[str, Any], ...]:
    return ({"role": "assistant", "content": response.text},)


def _receipt(
    round: Round,
    *,
    judged: list[PairVotes],
    verdicts: dict[int, str],
    usable: list[PairVotes],
    edits: int,
) -> Receipt:
    counts = Counter(verdicts.values())
    ties_used = sum(verdicts[votes.pair.pk] == Verdict.TIE for votes in usable)
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
        ties=counts[Verdict.TIE] - ties_used,
        ties_used=ties_used,
        both_bad=counts[Verdict.BOTH_BAD],
        conflicts=counts[CONFLICTING],
        unlabelled=offered.count() - len(judged) + counts[UNLABELLED],
        labels=len(votes),
        simulated_labels=sum(bool(vote.simulated_rule) for vote in votes),
        simulated_rules=tuple(rules),
        edits=edits,
        resolved=sum(pair.decision is not None and pair.decision.verdict is not None for pair in judged),
        left_out_by_lead=counts[LEFT_OUT],
        ignored_labels=sum(pair.ignored_votes for pair in judged),
        usable_per_round=dict(per_round),
        weight_per_round={batch: weight_of(batch, newest=round.number) for batch in per_round},
    )
