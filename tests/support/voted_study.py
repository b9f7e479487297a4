"""A small study with votes at random, in which every special case occurs: to compare figures with counts."""

from __future__ import annotations

import random

from annotate.models import Pair, Study, User, Verdict
from annotate.services.pairs import freeze_batch
from annotate.services.resolutions import resolve_pair
from annotate.services.review import withdraw_pair
from tests.support.labelling import label, make_annotator, make_pair, make_study

BATCHES = 3
PAIRS_A_BATCH = 12


def make_voted_study(*, seed: int, frozen: int = 0) -> Study:
    """Return a study of three batches and a few evaluation pairs, the first `frozen` batches frozen.

    Pairs have none to three votes; some are withdrawn, decided by a lead, or left out by one.
    """
    chance = random.Random(seed)
    study = make_study(labels_per_pair=3)
    people = [make_annotator(study, name) for name in ("ana", "ben", "cy")]
    for batch in range(BATCHES + 1):
        purpose = Pair.Purpose.TRAIN if batch else Pair.Purpose.EVALUATE
        for _ in range(PAIRS_A_BATCH):
            _vote(make_pair(study, batch=batch, purpose=purpose), people=people, chance=chance)
    lead = User.objects.get(memberships__study=study, memberships__role="lead")
    for batch in range(1, BATCHES + 1):
        withdrawn, decided, left_out = chance.sample(list(study.pairs.filter(batch=batch)), 3)
        withdraw_pair(pair=withdrawn, actor=lead)
        resolve_pair(pair=decided, verdict=chance.choice(list(Verdict)), note="", actor=lead)
        resolve_pair(pair=left_out, verdict=None, note="", actor=lead)
        if batch <= frozen:
            freeze_batch(study=study, batch=batch)
    return study


def _vote(pair: Pair, *, people: list[User], chance: random.Random) -> None:
    for person in chance.sample(people, chance.choice((0, 1, 2, 2, 3))):
        label(pair, person, chance.choice(list(Verdict)))
