"""From a finished run to a policy: once, whatever is interrupted between any two of these steps."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from django.conf import settings
from django.db import transaction

from annotate.services.audit import record_audit
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, fsync_file, fsync_folder
from training.core.run.records import RunResult
from training.models import Job, Policy, Recipe, Round, Run
from training.services.jobs import Claim, JobFailed, finish_attempt, heartbeat, hold_round
from training.services.last_look import create_last_look
from training.services.notices import refresh_queue_notice
from training.services.prequential import judge_by_new_labels, record_prequential_test
from training.services.rounds import create_heldout_job
from training.services.run_directories import absolute
from training.services.runs import execute_run, training_progress

SHA_CHARACTERS = 12


def run_and_publish(claim: Claim) -> None:
    """Train the job's run and publish the policy it gives."""
    job = Job.objects.select_related("run__round__study__recipe", "run__round__sampled_policy").get(
        pk=claim.job_id
    )
    if job.run is None:
        raise JobFailed("The run of this job is gone; start the training again.")
    directory = absolute(job.run.directory)
    execute_run(claim, directory=directory, progress=training_progress, until_trained=True)
    heartbeat(claim, message="Publishing the policy")
    publish_policy(claim, run=job.run)


def publish_policy(claim: Claim, *, run: Run) -> Policy:
    """Put the adapter in its immutable place and create its policy. Raises JobFailed or AttemptSuperseded."""
    directory = RunDirectory(absolute(run.directory))
    values = _checked_result(directory)
    result = RunResult.from_json(values)
    name = served_name(run, adapter_sha256=result.adapter_sha256 or "")
    place = _place_adapter(directory.adapter, name=name)
    new_labels = judge_by_new_labels(run, directory=directory)
    with transaction.atomic():
        finish_attempt(claim)
        hold_round(run.round_id)  # two runs of a round number their policies one after the other
        policy = _create_policy(run, name=name, place=place, adapter_sha256=result.adapter_sha256 or "")
        Run.objects.filter(pk=run.pk).update(policy=policy, result=values)
        Round.objects.filter(pk=run.round_id, state=Round.State.TRAINING).update(state=Round.State.TRAINED)
        Recipe.objects.filter(study=run.round.study, base_sha256="").update(base_sha256=result.base_sha256)
        record_prequential_test(run, labels=new_labels)
        create_heldout_job(policy=policy)
        create_last_look(policy=policy, examples=result.used)
        refresh_queue_notice(run.round.study)
        record_audit(
            study=run.round.study,
            actor=None,
            action="policy.published",
            details={"policy": policy.number, "name": name},
        )
    return policy


def served_name(run: Run, *, adapter_sha256: str) -> str:
    """Return the name under which the engine serves the adapter: the same weights of a run always get the
    same one, and two runs of a round that come to the same weights one each.
    """
    name = f"{run.round.study.slug}-r{run.round.number}-{adapter_sha256[:SHA_CHARACTERS]}"
    taken = Policy.objects.filter(served_name=name).exclude(run=run).exists()
    return f"{name}-run{run.number}" if taken else name


def parent_of(run: Run) -> Policy:
    """Return the policy whose weights the run goes on from."""
    if run.config.get("parent_adapter"):
        return run.round.sampled_policy
    return Policy.objects.get(study=run.round.study, number=0)


def _checked_result(directory: RunDirectory) -> dict[str, object]:
    """Return trained.json, after comparing the adapter's files with their hashes."""
    damaged = damaged_file(directory.adapter)
    if damaged is not None:
        # The retry goes on from its last checkpoint, unless a result says that the run has ended.
        directory.result.unlink(missing_ok=True)
        raise JobFailed(
            f"The trained adapter is damaged ({damaged}); check the disk, then retry: it is trained again."
        )
    result: dict[str, object] = json.loads(directory.trained.read_text(encoding="utf-8"))
    return result


def _place_adapter(adapter: Path, *, name: str) -> Path:
    """Copy the adapter to policies/<name>, complete or not at all; a copy that is there already stays."""
    place = Path(settings.STUDIO_HOME) / "policies" / name
    if place.exists() and damaged_file(place) is None:
        return place
    partial = place.with_name(f"{name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(adapter, partial)
    for file in sorted(path for path in partial.rglob("*") if path.is_file()):
        fsync_file(file)
    shutil.rmtree(place, ignore_errors=True)
    partial.rename(place)
    fsync_folder(place.parent)
    return place


def _create_policy(run: Run, *, name: str, place: Path, adapter_sha256: str) -> Policy:
    newest = Policy.objects.filter(study=run.round.study).order_by("-number")[:1].get()
    return Policy.objects.create(
        study=run.round.study,
        number=newest.number + 1,
        parent=parent_of(run),
        served_name=name,
        adapter_path=str(place.relative_to(settings.STUDIO_HOME)),
        adapter_sha256=adapter_sha256,
    )
