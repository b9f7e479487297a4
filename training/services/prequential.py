"""New labels as a test of the policy that was trained without them, before they are trained on.

A run looks at every example before its first step. Where it continues the policy that its round sampled, the
margins of that look on the round's own preferences are that policy's implicit rewards on data it never saw.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from annotate.models import Pair
from training.core.run.directory import RunDirectory
from training.core.run.files import read_json_lines
from training.core.run.records import read_margins
from training.models import PrequentialTest, Recipe, Run
from training.training_set.decide import EVEN

PLAIN_PAIR = re.compile(r"pair-(\d+)")


@dataclass(frozen=True)
class NewLabels:
    """A round's usable preferences by what the policy before them said: how many it agreed with."""

    preferences: int
    agreed: int
    equal: int


def judge_by_new_labels(run: Run, *, directory: RunDirectory) -> NewLabels | None:
    """Return how the run's new preferences agree with the policy it continues; None where that says nothing.

    The reference has no implicit reward (it is 0 for every text), and a run that does not continue the
    sampled policy has never looked through its eyes.
    """
    if run.round.sampled_policy.number == 0 or not run.config.get("parent_adapter"):
        return None
    margins = _first_margins(run, directory=directory) if directory.margins.exists() else []
    if not margins:
        return None
    return NewLabels(
        preferences=len(margins),
        agreed=sum(margin > 0 for margin in margins),
        equal=sum(margin == 0 for margin in margins),
    )


def record_prequential_test(run: Run, *, labels: NewLabels | None) -> None:
    """Write the test down with the run's result; further runs on the same labels tell nothing new."""
    told = PrequentialTest.objects.filter(run__round=run.round_id).exclude(run=run).exists()
    if labels is not None and not told:
        values = {"policy": run.round.sampled_policy, **asdict(labels)}
        PrequentialTest.objects.update_or_create(run=run, defaults=values)


def _first_margins(run: Run, *, directory: RunDirectory) -> list[float]:
    """Return the margins before the first step on the round's own pairs, ties and edits left out."""
    new = set(
        Pair.objects.filter(study_id=run.round.study_id, batch=run.round.number, purpose=Pair.Purpose.TRAIN)
        # Pairs chosen for their closeness or their lengths are no sample of what the policy writes.
        .exclude(chosen__rule__in=(Recipe.PairChoice.MARGIN, Recipe.PairChoice.LENGTH))
        .values_list("pk", flat=True)
    )
    ties = {
        str(line.get("id"))
        for line in read_json_lines(directory.examples)
        if line.get("tie") or line.get("p") == EVEN
    }
    first: dict[str, float] = {}
    for record in read_margins(directory.margins):
        pair = PLAIN_PAIR.fullmatch(record.id)
        if record.epoch == 0 and pair and int(pair[1]) in new and record.id not in ties:
            first.setdefault(record.id, record.margin_before)
    return list(first.values())
