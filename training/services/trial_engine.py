"""Asking the engine for a trial's answers, and writing them down while they are generated.

It runs on a thread of the web process that took the trial, so that no request waits and pages only read the
database. Only the thread that owns a trial writes to it; a stop is seen by the state that it finds.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field, fields
from functools import partial

from django.db import connections
from django.utils import timezone

from training.models import Job, Policy, Trial, TrialAnswer
from training.services.engines import engine_urls, waiting_for, want_base_model
from training.services.request_pool import RequestPool
from training.services.run_directories import absolute
from training.services.trials import ACTIVE
from training.serving.adapters import ensure_adapter
from training.serving.client import EngineClient, SamplingSettings
from training.serving.errors import EngineError

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 0.25
BEAT_SECONDS = 1.0
ENGINE_POLL_SECONDS = 1.0
ENGINE_SECONDS = 180
FIRST_TOKEN = "Waiting for the first token"


@dataclass
class Draft:
    """An answer as it grows; written by the event loop, read by the thread that stores it."""

    policy: Policy
    text: str = ""
    prompt_token_ids: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    finish_reason: str = ""
    note: str = ""
    began: float | None = None
    seconds: float | None = None
    is_stopped: bool = False
    stored: tuple[int, str] = (-1, "")

    @property
    def has_news(self) -> bool:
        return self.stored != (len(self.token_ids), self.note)


def start_trial(trial: Trial) -> None:
    """Have the trial answered in the background."""
    threading.Thread(target=_run_alone, args=(trial.pk,), name=f"trial-{trial.pk}", daemon=True).start()


def _run_alone(trial_id: int) -> None:
    try:
        run_trial(trial_id)
    finally:
        connections.close_all()


def run_trial(trial_id: int) -> None:
    """Ask for the trial's answers until each is done, stopped or failed. Nothing is raised."""
    trial = Trial.objects.select_related("study__recipe").get(pk=trial_id)
    answers = trial.answers.select_related("policy")
    drafts = {answer.pk: Draft(answer.policy) for answer in answers}
    try:
        with RequestPool[int, None]() as pool:
            Writing(trial, drafts, pool).run()
    except Exception as error:
        logger.exception("trial %s failed", trial_id)
        cause = f"Something unforeseen happened ({type(error).__name__}: {error}); the web log has more."
        _fail(trial, cause=cause)


def _fail(trial: Trial, *, cause: str) -> None:
    active = TrialAnswer.objects.filter(trial=trial, state__in=ACTIVE)
    active.update(state=TrialAnswer.State.FAILED, note=cause[:500])


@dataclass
class Writing:
    """One trial while it is being answered."""

    trial: Trial
    drafts: dict[int, Draft]
    pool: RequestPool[int, None]
    last_beat: float = 0.0

    def run(self) -> None:
        client = self._engine()
        if client is None:
            return
        messages, settings = self.trial.messages, settings_of(self.trial)
        for pk, draft in self.drafts.items():
            if not draft.is_stopped:
                self.pool.submit(pk, partial(answer, client, draft, messages=messages, settings=settings))
        while self.pool.in_flight:
            outcome = self.pool.next_outcome(timeout=FLUSH_SECONDS)
            self._flush()
            if outcome is not None:
                self._end(outcome.key, error=outcome.error)

    def _engine(self) -> EngineClient | None:
        """Return a client of an engine that serves the study's base; None when nothing is left to ask."""
        study = self.trial.study
        base_model = study.recipe.base_model
        began = time.monotonic()
        while any(not draft.is_stopped for draft in self.drafts.values()):
            is_taken = other_study_samples(base_model)
            if not is_taken:
                want_base_model(study=study, base_model=base_model)
            for url in engine_urls(base_model=base_model):
                client = EngineClient(url)
                self.pool.at_exit(client.close)
                if self._serves(client, base_model=base_model):
                    return client
            note = f"{waiting_for(base_model)}."
            if is_taken:
                note = "The engine samples for another study just now; it is asked again when that is done."
            self._say(note)
            if time.monotonic() - began > ENGINE_SECONDS:
                _fail(self.trial, cause=f"No engine came up in {ENGINE_SECONDS // 60} minutes. {note}")
                return None
            time.sleep(ENGINE_POLL_SECONDS)
        return None

    def _serves(self, client: EngineClient, *, base_model: str) -> bool:
        try:
            return bool(self.pool.call(client.base_model, meanwhile=self._beat).root == base_model)
        except EngineError:
            return False

    def _say(self, note: str) -> None:
        for draft in self.drafts.values():
            draft.note = note
        self._flush()

    def _flush(self) -> None:
        """Write down what has come since the last time, and learn which answers somebody has stopped."""
        self._beat()
        for pk, draft in self.drafts.items():
            if draft.is_stopped or draft.finish_reason:
                continue
            state = TrialAnswer.State.WRITING if draft.token_ids else TrialAnswer.State.WAITING
            self._store(pk, draft=draft, state=state)

    def _store(self, pk: int, *, draft: Draft, state: TrialAnswer.State) -> None:
        length, note = len(draft.token_ids), draft.note[:500]
        open_answer = TrialAnswer.objects.filter(pk=pk, state__in=ACTIVE)
        if not draft.has_news and state in ACTIVE:
            draft.is_stopped = not open_answer.exists()
            return
        # Lists are cut to one length: the event loop may be appending to them.
        written = open_answer.update(
            state=state,
            note=note,
            text=draft.text,
            prompt_token_ids=draft.prompt_token_ids,
            token_ids=draft.token_ids[:length],
            logprobs=draft.logprobs[:length],
            finish_reason=draft.finish_reason,
            seconds=draft.seconds,
        )
        draft.stored = (length, draft.note)
        draft.is_stopped = not written

    def _end(self, pk: int, *, error: Exception | None) -> None:
        draft = self.drafts[pk]
        if error is not None:
            logger.info("trial %s, %s: %s", self.trial.pk, draft.policy, error)
            draft.note = str(error)
            self._store(pk, draft=draft, state=TrialAnswer.State.FAILED)
        elif not draft.is_stopped:
            self._store(pk, draft=draft, state=TrialAnswer.State.DONE)

    def _beat(self) -> None:
        if time.monotonic() - self.last_beat > BEAT_SECONDS:
            Trial.objects.filter(pk=self.trial.pk).update(heartbeat_at=timezone.now())
            self.last_beat = time.monotonic()


def other_study_samples(base_model: str) -> bool:
    """Return whether a job of a study with another base model has or waits for the engine."""
    kinds, states = (Job.Kind.SAMPLING, Job.Kind.HELDOUT), (Job.State.QUEUED, Job.State.RUNNING)
    jobs = Job.objects.filter(kind__in=kinds, state__in=states)
    return jobs.exclude(study__recipe__base_model=base_model).exists()


def settings_of(trial: Trial) -> SamplingSettings:
    """Return the settings as they were written down: what is shown is what is sent."""
    known = {entry.name for entry in fields(SamplingSettings)}
    stored = {name: value for name, value in trial.sampling.items() if name in known}
    return SamplingSettings(**stored | {"stop": tuple(stored.get("stop", ()))})


async def answer(
    client: EngineClient, draft: Draft, *, messages: list[dict[str, str]], settings: SamplingSettings
) -> None:
    """Let the draft grow until the policy has ended its answer or somebody stops it. Raises EngineError."""
    model = await served_model(client, draft)
    if draft.is_stopped:
        return
    draft.note = FIRST_TOKEN
    async for piece in client.stream(messages, model=model, settings=settings):
        if draft.is_stopped:
            return
        draft.began = draft.began or time.monotonic()
        draft.prompt_token_ids = draft.prompt_token_ids or list(piece.prompt_token_ids)
        draft.text += piece.text
        draft.logprobs.extend(piece.logprobs)
        draft.token_ids.extend(piece.token_ids)
        draft.note = "" if draft.token_ids else draft.note
        draft.seconds = time.monotonic() - draft.began
        if piece.finish_reason:
            draft.finish_reason = piece.finish_reason


async def served_model(client: EngineClient, draft: Draft) -> str:
    """Return the name that the engine serves the policy under, its adapter loaded where need be."""
    policy = draft.policy
    if not policy.adapter_path:
        return (await client.base_model()).name
    if policy.served_name not in {model.name for model in await client.served_models()}:
        draft.note = f"The adapter of {policy.label} is not loaded on the engine: loading it."
        await ensure_adapter(client, name=policy.served_name, path=absolute(policy.adapter_path))
    return policy.served_name
