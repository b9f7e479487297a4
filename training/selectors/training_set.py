"""What a round's labels come to under some rules: every pair decided, counted, and in example order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from annotate.models import Pair, Preference, Side, Split, Study, User
from annotate.quality.vote_columns import BoolArray, IntArray, VoteColumns
from annotate.selectors.preferences import left_out_annotators
from annotate.selectors.vote_columns import vote_columns
from training.models import Recipe, Round
from training.services.pair_similarity import alike_pairs
from training.training_set.decide import Decisions, Outcome, decide
from training.training_set.receipt import Receipt
from training.training_set.rules import Edits, Rules, rule_words, rules_from_json

CHECKS = (Pair.Purpose.PRACTICE, Pair.Purpose.GOLD, Pair.Purpose.REPEAT)


@dataclass(frozen=True)
class Edit:
    """A better text than one of a pair's responses; `side` is the response that was edited."""

    preference_id: int
    pair_id: int
    batch: int
    side: str
    text: str


@dataclass(frozen=True)
class Assembled:
    """A training set before its texts are read: `edits` are in the order of pairs, then of preferences."""

    rules: Rules
    loss: str
    newest: int
    columns: VoteColumns
    decisions: Decisions
    edits: tuple[Edit, ...]
    receipt: Receipt

    def pairs_that_came_to(self, outcome: Outcome) -> list[int]:
        """Return the ids of the pairs with this outcome."""
        ids: list[int] = self.columns.pair_ids[self.decisions.outcomes == outcome].tolist()
        return ids


def rules_of(recipe: Recipe) -> Rules:
    """Return the rules of the study's training sets."""
    return rules_from_json(recipe.training_rules)


def assemble(*, round: Round, rules: Rules, loss: str) -> Assembled:
    """Decide every pair of the round and those before it: a fixed number of queries, no texts but edits."""
    study, batches = round.study, range(1, round.number + 1)
    columns = vote_columns(study=study, batches=batches, left_out=rules.annotators_left_out)
    decisions = decide(
        columns, rules=rules, loss=loss, newest=round.number, alike=_alike(study, columns, rules=rules)
    )
    edits = _edits(study, columns=columns, decisions=decisions, rules=rules)
    return Assembled(
        rules=rules,
        loss=loss,
        newest=round.number,
        columns=columns,
        decisions=decisions,
        edits=edits,
        receipt=_receipt(
            round, columns=columns, decisions=decisions, edits=len(edits), rules=rules, loss=loss
        ),
    )


def _alike(study: Study, columns: VoteColumns, *, rules: Rules) -> BoolArray | None:
    if rules.most_alike is None:
        return None
    return alike_pairs(study=study, pair_ids=columns.pair_ids, at_least=rules.most_alike)


def _edits(study: Study, *, columns: VoteColumns, decisions: Decisions, rules: Rules) -> tuple[Edit, ...]:
    """Return the edits that say something new, of pairs that no lead left out, by people who count."""
    if rules.edits == Edits.LEAVE_OUT:
        return ()
    unusable = np.isin(decisions.outcomes, [Outcome.LEFT_OUT_BY_LEAD, Outcome.OLDER])
    usable = set(columns.pair_ids[~unusable].tolist())
    # Edits are few and have an index of their own; asking for them by study reads every vote.
    edited = Preference.objects.filter(edited_response__isnull=False).order_by().values_list("pair_id", "pk")
    ids = [pk for pair, pk in sorted(edited) if pair in usable]
    ignored = left_out_annotators(study) | set(rules.annotators_left_out)
    rows = Preference.objects.select_related(
        "edited_response", "pair__response_a", "pair__response_b"
    ).in_bulk(ids)
    return tuple(
        Edit(row.pk, row.pair_id, row.pair.batch, row.edited_side, row.edited_response.text)
        for row in map(rows.__getitem__, ids)
        if row.annotator_id not in ignored and row.edited_response and _says_something_new(row)
    )


def _says_something_new(row: Preference) -> bool:
    original = row.pair.response_a if row.edited_side == Side.A else row.pair.response_b
    edited = row.edited_response.text.strip() if row.edited_response else ""
    return bool(row.edited_side) and edited not in ("", original.text.strip())


def _receipt(
    round: Round, *, columns: VoteColumns, decisions: Decisions, edits: int, rules: Rules, loss: str
) -> Receipt:
    counts = Counter({Outcome(came_to): pairs for came_to, pairs in _counted(decisions.outcomes)})
    counts[Outcome.UNLABELLED] += _offered(round) - len(columns.pair_ids)
    used, preferences = decisions.used, decisions.outcomes == Outcome.PREFERENCE
    per_round = dict(_counted(columns.batches[used]))
    decided = (columns.decisions >= 0).sum()
    return Receipt(
        counts=counts,
        labels=len(columns.pairs),
        simulated=columns.simulated,
        soft=int((preferences & (decisions.p < 1)).sum()),
        edits=edits * (2 if rules.edits == Edits.BOTH else 1),
        resolved=int(decided),
        ignored_labels=columns.ignored,
        check_labels=Preference.objects.filter(pair__study=round.study, pair__purpose__in=CHECKS).count(),
        usable_per_round=per_round,
        weight_per_round={batch: rules.weight_of(batch, newest=round.number) for batch in per_round},
        rules=rules.as_json(),
        rule_words=tuple(rule_words(rules, loss=loss, people=_names(rules.annotators_left_out))),
    )


def _counted(values: IntArray) -> list[tuple[int, int]]:
    """Return each value with how often it occurs, in order."""
    different, counts = np.unique(values, return_counts=True)
    return list(zip(different.tolist(), counts.tolist(), strict=True))


def _offered(round: Round) -> int:
    pairs = Pair.objects.filter(
        study=round.study,
        batch__range=(1, round.number),
        purpose=Pair.Purpose.TRAIN,
        prompt__split=Split.TRAIN,
    )
    return pairs.exclude(state=Pair.State.WITHDRAWN).count()


def _names(users: Collection[int]) -> dict[int, str]:
    return {user.pk: user.display_name for user in User.objects.filter(pk__in=users)} if users else {}
