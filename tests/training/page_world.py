"""A study with its people and their signed-in clients, and rows to show on the lead's pages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client
from django.utils import timezone

from annotate.models import Prompt, Role, Split, Study, User
from annotate.services.pairs import add_response
from annotate.services.studies import add_member
from tests.training.factories import make_study, make_user
from training.models import Attempt, Job, Policy, Round, Run, SampledResponse, Score

RESULT: dict[str, Any] = {
    "train_accuracy": 0.9,
    "train_margin": 1.25,
    "loss_first": 0.6931,
    "loss_last": 0.41,
    "used": 3,
    "versions": {"torch": "2.13.0"},
}


@dataclass(frozen=True)
class PageWorld:
    """One study, and a client per person; the outsider leads another study."""

    study: Study
    lead: Client
    viewer: Client
    annotator: Client
    outsider: Client
    lead_user: User

    def url(self, rest: str = "") -> str:
        return f"/studies/{self.study.slug}/{rest}"


def page_world(*, train: int = 4, heldout: int = 2, **recipe: Any) -> PageWorld:
    study = make_study(train=train, heldout=heldout, **{"minimum_labels": 2, **recipe})
    lead, viewer, annotator, outsider = (make_user(name) for name in ("lead", "viewer", "ann", "outsider"))
    add_member(study=study, user=lead, role=Role.LEAD, actor=None)
    add_member(study=study, user=viewer, role=Role.VIEWER, actor=None)
    add_member(study=study, user=annotator, role=Role.ANNOTATOR, actor=None)
    add_member(study=make_study(), user=outsider, role=Role.LEAD, actor=None)
    return PageWorld(
        study=study,
        lead=client_of(lead),
        viewer=client_of(viewer),
        annotator=client_of(annotator),
        outsider=client_of(outsider),
        lead_user=lead,
    )


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend=settings.AUTHENTICATION_BACKENDS[-1])
    return client


def add_job(study: Study, *, kind: Job.Kind, state: Job.State, **fields: Any) -> Job:
    """A job in any state, with the attempt that goes with it, heard from just now when it runs."""
    started = None if state == Job.State.QUEUED else timezone.now()
    ended = started if state not in (Job.State.QUEUED, Job.State.RUNNING) else None
    job = Job.objects.create(
        study=study,
        kind=kind,
        state=state,
        started_at=started,
        finished_at=ended,
        **{"unit": "responses", **fields},
    )
    lease = timezone.now() + timedelta(seconds=30) if state == Job.State.RUNNING else None
    Attempt.objects.create(job=job, number=1, state=state, lease_until=lease)
    return job


def add_run(item: Round, *, state: Job.State = Job.State.DONE, number: int = 1, **job: Any) -> Run:
    """A run with its job; a run that is done has a result."""
    run = Run.objects.create(
        round=item,
        number=number,
        config={"loss": {"name": "dpo", "beta": 0.2}, "optimizer": {"learning_rate": 1e-4}},
        receipt={
            "usable": 3,
            "left_out": {"ties": 1},
            "labels": 4,
            "rounds": {"1": {"usable": 3, "weight": 1.0}},
        },
        dataset_sha256="d" * 64,
        directory=f"runs/{item.pk}-{number}",
        result=RESULT if state == Job.State.DONE else None,
    )
    add_job(item.study, kind=Job.Kind.RUN, state=state, round=item, run=run, **{"unit": "steps", **job})
    return run


def add_policy(study: Study, *, number: int = 1, run: Run | None = None) -> Policy:
    policy = Policy.objects.create(study=study, number=number, served_name=f"{study.slug}-r{number}-abc")
    if run is not None:
        Run.objects.filter(pk=run.pk).update(policy=policy)
    return policy


def write_metrics(run: Run, rows: list[dict[str, Any]], *, tail: str = "") -> Path:
    """Write the run's metrics.jsonl; `tail` is a last line without its end, as while it is being written."""
    directory = Path(settings.STUDIO_HOME) / run.directory
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "metrics.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail)
    return path


def heldout_prompts(study: Study) -> list[Prompt]:
    return list(study.prompts.filter(split=Split.HELDOUT).order_by("position"))


def add_heldout_response(
    policy: Policy,
    prompt: Prompt,
    text: str,
    *,
    slot: int = 0,
    tokens: int | None = None,
    was_cut: bool = False,
    log_ratio: float | None = None,
    **sampling: float,
) -> SampledResponse:
    """A held-out response; with `log_ratio` it is scored, log π − log π_ref being that much.

    `sampling` are the settings it was drawn with; what is not named leaves the policy as it is.
    """
    sampled = SampledResponse.objects.create(
        response=add_response(prompt=prompt, text=text, was_cut=was_cut),
        prompt=prompt,
        policy=policy,
        slot=slot,
        settings=sampling,
        prompt_token_ids=[1],
        token_ids=list(range(len(text.split()) if tokens is None else tokens)),
        logprobs=[],
        finish_reason="length" if was_cut else "stop",
    )
    if log_ratio is not None:
        Score.objects.create(
            sampled=sampled, policy=policy, policy_logp=-10.0 + log_ratio, reference_logp=-10.0
        )
    return sampled
