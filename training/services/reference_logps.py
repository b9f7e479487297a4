"""The reference's log-probs of a round's responses, put into the ledger while people label.

A third of a round's training time would go into them; nobody waits for them here. Training computes what is
missing by itself.
"""

from __future__ import annotations

from django.db.models import Q, QuerySet

from annotate.models import Pair
from training.core.run.directory import RunDirectory, write_run_directory
from training.models import Job, Policy, Round, SampledResponse
from training.services.jobs import Claim, JobFailed, create_job, finish_attempt, heartbeat, make_way
from training.services.run_directories import absolute, scoring_config
from training.services.runs import Progress, execute_run, said_progress
from training.services.scoring import score_examples

LEFT_TO_TRAINING = "The rest is left to training"


class LabelsFrozen(Exception):
    """Training has begun and wants the accelerator."""


def create_reference_job(*, round: Round) -> Job | None:
    """Queue the reference's log-probs of a round's responses, once; None where there are none."""
    total = responses_of(round).count()
    if not total or Job.objects.filter(round=round, kind=Job.Kind.REFERENCE).exists():
        return None
    return create_job(
        study=round.study, kind=Job.Kind.REFERENCE, round=round, unit="completions", total=total
    )


def compute_reference(claim: Claim) -> None:
    """Fill the ledger with the round's responses until all are there or training begins."""
    job = Job.objects.select_related("round__study__recipe").get(pk=claim.job_id)
    if job.round is None:
        raise JobFailed("The round of this job is gone; there is nothing to compute.")
    item = job.round
    directory = absolute(f"runs/{job.study.slug}/round-{item.number}-reference-{claim.job_id}-{claim.number}")
    reference = Policy.objects.select_related("study__recipe").get(study=job.study, number=0)
    if not RunDirectory(directory).config.exists():
        examples = score_examples(list(responses_of(item)))
        write_run_directory(directory, config=scoring_config(reference), examples=examples)

    def progress(run: RunDirectory) -> Progress:
        if not _collects(item):
            raise LabelsFrozen
        make_way()  # what the ledger has it keeps
        return said_progress(run, doing="reference")

    try:
        if not _collects(item):
            raise LabelsFrozen
        execute_run(claim, directory=directory, progress=progress)
    except LabelsFrozen:
        finish_attempt(claim, message=LEFT_TO_TRAINING)
    else:
        heartbeat(claim, done=job.total)
        finish_attempt(claim)


def responses_of(round: Round) -> QuerySet[SampledResponse]:
    """Return the responses in the round's pairs, prompt by prompt."""
    pairs = Pair.objects.filter(study=round.study_id, batch=round.number, purpose=Pair.Purpose.TRAIN)
    paired = Q(response__in=pairs.values("response_a")) | Q(response__in=pairs.values("response_b"))
    rows = SampledResponse.objects.filter(paired, round=round).select_related("prompt", "response")
    return rows.order_by("prompt__position", "prompt_id", "slot")


def _collects(round: Round) -> bool:
    return Round.objects.filter(pk=round.pk, state=Round.State.COLLECTING).exists()
