"""The training examples that a round's labels come to, in the order of their pairs, with their receipt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from annotate.models import Pair, Response, Side, Split
from training.core.run.directory import DpoExample
from training.models import Round, SampledResponse
from training.selectors.training_set import Assembled, Edit, assemble, rules_of
from training.training_set.decide import Outcome
from training.training_set.receipt import Receipt
from training.training_set.rules import Edits, Rules, rule_faults

# An edit says one thing of one response, as a vote does: it weighs as much as a pair of its round.
EDIT_WEIGHT = 1.0
CHUNK = 500


class HeldoutLeak(Exception):
    """A held-out prompt was about to be trained on."""


class RulesRefused(Exception):
    """The loss cannot follow the rules; the message says which and what to do."""


@dataclass(frozen=True)
class TrainingSet:
    """Examples in the order of their pairs, with their receipt."""

    examples: tuple[DpoExample, ...]
    receipt: Receipt


def build_training_set(*, round: Round, rules: Rules | None = None) -> TrainingSet:
    """Build the examples of every label so far, up to and including the round's.

    The rules are the study's unless others are given (training/training_set/rules.py). Each edit adds an
    example of its own: the edited text is preferred to the response that it was made of. Raises RulesRefused.
    """
    recipe = round.study.recipe
    followed = rules_of(recipe) if rules is None else rules
    if faults := rule_faults(followed, loss=recipe.loss):
        raise RulesRefused(" ".join(faults.values()))
    assembled = assemble(round=round, rules=followed, loss=recipe.loss)
    examples = [*pair_examples(assembled), *edit_examples(assembled, edits=assembled.edits)]
    return TrainingSet(examples=tuple(examples), receipt=assembled.receipt)


def pair_examples(assembled: Assembled, *, only: Sequence[int] | None = None) -> Iterator[DpoExample]:
    """Yield the examples of the pairs that are used, in the order of ids, or of `only` these of them."""
    decisions, used = assembled.decisions, assembled.decisions.used
    rows = zip(
        assembled.columns.pair_ids[used].tolist(),
        decisions.outcomes[used].tolist(),
        decisions.b_is_chosen[used].tolist(),
        decisions.p[used].tolist(),
        decisions.weights[used].tolist(),
        strict=True,
    )
    wanted = None if only is None else set(only)
    chosen = [row for row in rows if wanted is None or row[0] in wanted]
    for start in range(0, len(chosen), CHUNK):
        chunk = chosen[start : start + CHUNK]
        loaded = _Loaded.of([row[0] for row in chunk])
        for pair_id, outcome, b_is_chosen, p, weight in chunk:
            yield _example(
                loaded,
                pair=loaded.pairs[pair_id],
                b_is_chosen=b_is_chosen,
                p=p,
                weight=weight,
                tie=outcome == Outcome.TIE,
            )


def edit_examples(assembled: Assembled, *, edits: Sequence[Edit]) -> Iterator[DpoExample]:
    """Yield the examples of these edits."""
    for start in range(0, len(edits), CHUNK):
        chunk = edits[start : start + CHUNK]
        loaded = _Loaded.of([edit.pair_id for edit in chunk])
        for edit in chunk:
            weight = EDIT_WEIGHT * assembled.rules.weight_of(edit.batch, newest=assembled.newest)
            yield from _edit_examples(loaded, edit=edit, weight=weight, kind=assembled.rules.edits)


@dataclass(frozen=True)
class _Loaded:
    """Pairs with their prompts and responses, and the tokens that were sampled for them."""

    pairs: dict[int, Pair]
    sampled: dict[int, SampledResponse]

    @classmethod
    def of(cls, ids: Sequence[int]) -> _Loaded:
        pairs = Pair.objects.select_related("prompt", "response_a", "response_b").in_bulk(ids)
        responses = [key for pair in pairs.values() for key in (pair.response_a_id, pair.response_b_id)]
        rows = SampledResponse.objects.filter(response__in=responses).defer("logprobs", "settings")
        return cls(pairs=pairs, sampled={row.response_id: row for row in rows})


def _example(
    loaded: _Loaded, *, pair: Pair, b_is_chosen: bool, p: float, weight: float, tie: bool
) -> DpoExample:
    _check_trainable(pair)
    # Of a tie neither is chosen: the loss is the same either way round.
    chosen, rejected = pair.response_a, pair.response_b
    if b_is_chosen:
        chosen, rejected = rejected, chosen
    chosen_sample, rejected_sample = loaded.sampled.get(chosen.pk), loaded.sampled.get(rejected.pk)
    return DpoExample(
        id=f"pair-{pair.pk}",
        prompt=tuple(pair.prompt.messages),
        chosen=_as_message(chosen),
        rejected=_as_message(rejected),
        prompt_token_ids=tuple(chosen_sample.prompt_token_ids) if chosen_sample else None,
        chosen_token_ids=tuple(chosen_sample.token_ids) if chosen_sample else None,
        rejected_token_ids=tuple(rejected_sample.token_ids) if rejected_sample else None,
        p=p,
        weight=weight,
        tie=tie,
    )


def _edit_examples(loaded: _Loaded, *, edit: Edit, weight: float, kind: Edits) -> Iterator[DpoExample]:
    """Edited ≻ original, and ≻ the other response too where the rules say so.

    Nobody sampled the edit, so the trainer encodes its text and ends it.
    """
    pair = loaded.pairs[edit.pair_id]
    _check_trainable(pair)
    original, other = pair.response_a, pair.response_b
    if edit.side == Side.B:
        original, other = other, original
    beaten = {f"edit-{edit.preference_id}": original}
    if kind == Edits.BOTH:
        beaten[f"edit-{edit.preference_id}-other"] = other
    for name, rejected in beaten.items():
        sample = loaded.sampled.get(rejected.pk)
        yield DpoExample(
            id=name,
            prompt=tuple(pair.prompt.messages),
            chosen=({"role": "assistant", "content": edit.text},),
            rejected=_as_message(rejected),
            prompt_token_ids=tuple(sample.prompt_token_ids) if sample else None,
            rejected_token_ids=tuple(sample.token_ids) if sample else None,
            weight=weight,
        )


def _check_trainable(pair: Pair) -> None:
    if pair.prompt.split != Split.TRAIN or pair.purpose != Pair.Purpose.TRAIN:
        raise HeldoutLeak(
            f"pair {pair.pk} is not for training (prompt {pair.prompt_id}, {pair.prompt.split})"
        )


def _as_message(response: Response) -> tuple[dict[str, Any], ...]:
    return ({"role": "assistant", "content": response.text},)
