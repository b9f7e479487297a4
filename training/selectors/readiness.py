"""Whether a round can train, in a sentence that a lead can act on. Reads only."""

from dataclasses import dataclass

from annotate.models import Pair
from annotate.selectors.preferences import label_usage
from training.models import Job, Recipe, Round


@dataclass(frozen=True)
class Readiness:
    """`sentence` says why or why not; `note` is what a lead should know before pressing “Train”, or empty.

    `conflicts` are pairs on which no verdict leads.
    """

    ready: bool
    sentence: str
    usable: int
    needed: int
    note: str = ""
    conflicts: int = 0


def round_readiness(round: Round) -> Readiness:
    """Return whether `start_training` would accept the round now: with enough labels of its own."""
    recipe = Recipe.objects.get(study_id=round.study_id)
    found = label_usage(study=round.study, batches=[round.number])
    usable, needed = found.usable, recipe.minimum_labels
    if refusal := state_refusal(round):
        return Readiness(ready=False, sentence=refusal, usable=usable, needed=needed)
    ready = usable >= needed
    sentence = (
        f"{usable} usable preferences are ready ({needed} are needed)."
        if ready
        else f"{usable} of {needed} usable preferences; label at least {_more_pairs(needed - usable)}."
    )
    return Readiness(ready, sentence, usable, needed, note=sampling_note(round), conflicts=found.conflicting)


def state_refusal(round: Round) -> str:
    """Return why the round's state rules out a training, or nothing.

    A round whose runs all failed or were cancelled may start another one, with the recipe as it is now.
    """
    if round.state == Round.State.COLLECTING:
        return ""
    if round.state != Round.State.TRAINING:
        return f"Round {round.number} has been trained; open the next round."
    active = Job.objects.filter(
        round=round, kind=Job.Kind.RUN, state__in=[Job.State.QUEUED, Job.State.RUNNING]
    )
    return f"Round {round.number} is already training." if active.exists() else ""


def sampling_note(round: Round) -> str:
    """Return what to know while pairs still come, or nothing."""
    sampling = Job.objects.filter(round=round, kind=Job.Kind.SAMPLING).first()
    if sampling is None or not sampling.is_active:
        return ""
    pairs = Pair.objects.filter(
        study_id=round.study_id, batch=round.number, purpose=Pair.Purpose.TRAIN
    ).count()
    return (
        f"Sampling is still going on ({pairs} of {sampling.total // round.samples_per_prompt} pairs); "
        "training now stops it and uses what is labelled."
    )


def _more_pairs(number: int) -> str:
    return "1 more pair" if number == 1 else f"{number} more pairs"
