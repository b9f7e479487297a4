"""Rows for tests of the loop, made by the product's own services where there is one."""

from __future__ import annotations

import itertools
import json
import uuid
from typing import Any

from django.utils import timezone

from annotate.models import Pair, Preference, Prompt, Side, Study, User, Verdict
from annotate.services.accounts import create_user
from annotate.services.preferences import record_preference
from annotate.services.prompts import import_prompts
from annotate.services.studies import create_study
from training.models import Attempt, Job, Policy, Recipe, Round, Trial, TrialAnswer
from training.services.jobs import create_job
from training.services.slots import NewResponse
from training.services.studies import reference_name
from training.services.trials import chat_hash
from training.serving.client import SamplingSettings

numbers = itertools.count(1)


def make_user(name: str = "user", *, simulated_rule: str = "") -> User:
    user, _ = create_user(
        username=f"{name}-{next(numbers)}", display_name=name.title(), simulated_rule=simulated_rule
    )
    return user


def make_study(*, train: int = 4, heldout: int = 2, base_model: str = "owner/model", **recipe: Any) -> Study:
    """A study with prompts of both splits, a recipe and policy 0; its base model is not checked."""
    lead = make_user("lead")
    study = create_study(name=f"Study {next(numbers)}", lead=lead)
    Recipe.objects.create(study=study, base_model=base_model, **recipe)
    Policy.objects.create(study=study, number=0, served_name=reference_name(study))
    add_prompts(study, train=train, heldout=heldout)
    return study


def add_prompts(study: Study, *, train: int, heldout: int) -> None:
    splits = ["train"] * train + ["heldout"] * heldout
    lines = [
        json.dumps({"messages": [{"role": "user", "content": f"Question {next(numbers)}?"}], "split": split})
        for split in splits
    ]
    import_prompts(study=study, lines=[line.encode() for line in lines], heldout_share=0.0)


def make_round(study: Study, *, number: int = 1, state: Round.State = Round.State.COLLECTING) -> Round:
    policy = study.policies.order_by("-number")[:1].get()
    return Round.objects.create(study=study, number=number, sampled_policy=policy, state=state)


def make_job(study: Study, *, kind: Job.Kind = Job.Kind.SAMPLING, round: Round | None = None) -> Job:
    return create_job(study=study, kind=kind, round=round, unit="responses", total=8)


def attempt_of(job: Job) -> Attempt:
    """The attempt that owns the job now."""
    job.refresh_from_db()
    return job.attempts.get(number=job.attempt_number)


def make_response(text: str, *, finish_reason: str = "stop") -> NewResponse:
    return NewResponse(
        text=text,
        prompt_token_ids=[1, 2, 3],
        token_ids=[len(word) for word in text.split()] + [0],
        logprobs=[-0.5] * (len(text.split()) + 1),
        finish_reason=finish_reason,
        settings={"temperature": 1.0},
    )


def make_trial(
    study: Study, *, text: str = "Why is the sky blue?", policies: tuple[Policy, ...] = ()
) -> Trial:
    """A trial whose answers nobody has begun to write yet."""
    chat = [{"role": "user", "content": text}]
    trial = Trial.objects.create(
        study=study,
        messages=chat,
        content_hash=chat_hash(chat),
        sampling=SamplingSettings(max_tokens=24).as_request(),
        heartbeat_at=timezone.now(),
        created_by=study.memberships.filter(role="lead").earliest("pk").user,
    )
    for policy in policies:
        TrialAnswer.objects.create(trial=trial, policy=policy)
    return trial


def label(pair: Pair, *, annotator: User, verdict: Verdict = Verdict.A) -> Preference:
    return record_preference(
        pair=pair, annotator=annotator, verdict=verdict, client_id=uuid.uuid4(), shown_left=Side.A
    )


def train_prompts(study: Study) -> list[Prompt]:
    return list(study.prompts.filter(split="train").order_by("position"))
