"""Steps of the loop for tests that need a round with pairs and labels but no engine."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from annotate.models import Pair, User, Verdict
from tests.training.factories import attempt_of, label, make_response, make_study, make_user
from training.models import Job, Round, Run
from training.services.jobs import Claim, claim_attempt, finish_attempt
from training.services.rounds import open_round, start_training
from training.services.slots import NewResponse, Slot, Target, missing_slots, store_response


def target_of(round: Round) -> Target:
    return Target(study=round.study, policy=round.sampled_policy, round=round, slots_per_prompt=2)


def sampling_claim(round: Round) -> Claim:
    return claim_attempt(attempt_of(round.jobs.get(kind=Job.Kind.SAMPLING)).pk)


def fill_round(round: Round) -> None:
    """Store two different responses per prompt and finish the sampling job, as if an engine had answered."""
    claim, target = sampling_claim(round), target_of(round)
    for slot in missing_slots(target):
        store_response(claim, target=target, slot=slot, new=response_for(slot))
    finish_attempt(claim)


def response_for(slot: Slot) -> NewResponse:
    text = "short answer" if slot.number == 0 else "an answer that is quite a bit longer"
    return make_response(f"{text} to prompt {slot.prompt_id}")


def label_round(round: Round, *, verdicts: Iterable[Verdict], annotator: User | None = None) -> list[Pair]:
    """Label the round's first pairs, one verdict each."""
    pairs = list(Pair.objects.filter(study=round.study, batch=round.number).order_by("pk"))
    annotator = annotator or make_user("annotator")
    labelled = list(zip(pairs, verdicts, strict=False))
    for pair, verdict in labelled:
        label(pair, annotator=annotator, verdict=verdict)
    return [pair for pair, _ in labelled]


def started_run(model: Path, *, epochs: int = 1) -> Run:
    """A labelled round of four pairs whose run, with the real trainer, waits for a worker."""
    study = make_study(
        train=4,
        heldout=1,
        base_model=str(model),
        dtype="float32",
        minimum_labels=2,
        pairs_per_step=2,
        epochs=epochs,
    )
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.A, Verdict.B])
    return start_training(round=opened)
