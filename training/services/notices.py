"""What an annotator with nothing to label reads about the loop, written on a study that knows no rounds."""

from __future__ import annotations

from annotate.models import Study
from annotate.services.studies import set_queue_notice
from training.models import Job, Round

STOPPED = (Job.State.FAILED, Job.State.CANCELLED)


def refresh_queue_notice(study: Study) -> None:
    """Write what is going on now; call it in the transaction that changes it."""
    newest = Round.objects.filter(study=study).order_by("-number").first()
    set_queue_notice(study=study, text=notice_of(newest))


def notice_of(newest: Round | None) -> str:
    """Return one sentence or two about the newest round, for people who wait for pairs."""
    if newest is None:
        return "No round has been opened yet; pairs come with round 1."
    number, after = newest.number, newest.number + 1
    if newest.state == Round.State.COLLECTING:
        return _collecting(newest)
    if newest.state == Round.State.TRAINING:
        if _state_of(newest, kind=Job.Kind.RUN) in STOPPED:
            stopped = f"The training of round {number} stopped; a lead can start it again."
            return f"{stopped} New pairs come with round {after}."
        return f"Round {number} is training; new pairs come with round {after}."
    if newest.state == Round.State.CLOSED:
        return f"Round {number} is closed; new pairs come when a lead opens round {after}."
    return f"Round {number} is trained; new pairs come when a lead opens round {after}."


def _collecting(newest: Round) -> str:
    state = _state_of(newest, kind=Job.Kind.SAMPLING)
    if state in (Job.State.QUEUED, Job.State.RUNNING):
        return f"Round {newest.number} is being sampled; new pairs arrive while that goes on."
    if state in STOPPED:
        return f"The sampling of round {newest.number} stopped before its end; a lead can start it again."
    return (
        f"All pairs of round {newest.number} have been sampled; training starts when a lead presses “Train”."
    )


def _state_of(newest: Round, *, kind: Job.Kind) -> str | None:
    return newest.jobs.filter(kind=kind).order_by("-id").values_list("state", flat=True).first()
