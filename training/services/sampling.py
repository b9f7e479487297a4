"""Filling slots with responses from the engine, resumable at any moment and stopped within a second."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from django.conf import settings
from django.db import transaction

from annotate.models import Prompt
from training.models import Job, Round
from training.services.comparison import measure_policy
from training.services.engines import (
    Engine,
    Patience,
    heldout_settings,
    pause,
    published_engines,
    sampling_settings,
)
from training.services.evaluation_pairs import ask_for_evaluation
from training.services.jobs import Claim, JobFailed, MadeWay, finish_attempt, heartbeat
from training.services.request_pool import Outcome, RequestPool
from training.services.scoring import create_scoring_job
from training.services.slots import (
    RESPONSES_PER_PAIR,
    NewResponse,
    Slot,
    Stored,
    Target,
    missing_slots,
    pair_up,
    prompts_without_pair,
    store_response,
)
from training.serving.client import Completion, SamplingSettings
from training.serving.errors import EngineError, EngineRefused

TICK_SECONDS = 0.5
BEAT_SECONDS = 1.0
ENGINE_LOST = "The engine is restarting; sampling goes on when it is back"
# What the engine says of a prompt that it will never answer, and of an adapter that a restart made it forget.
PROMPT_REFUSED = (400, 413, 422)
MODEL_UNKNOWN = 404


def sample_round(claim: Claim) -> None:
    """Fill a round's slots and make its pairs; finishes the attempt."""
    job = Job.objects.select_related("round__sampled_policy", "round__study__recipe").get(pk=claim.job_id)
    if job.round is None:
        raise JobFailed("The round of this job is gone; open a new one.")
    opened = job.round
    target = Target(opened.study, opened.sampled_policy, opened, slots_per_prompt=RESPONSES_PER_PAIR)
    pair_up(claim, target=target)
    refused = fill_slots(claim, target=target, parameters=sampling_settings(opened.study.recipe))
    with transaction.atomic():
        finish_attempt(claim, message=refused.sentence)
        Round.objects.filter(pk=opened.pk).update(pairs_dropped=prompts_without_pair(opened).count())


def sample_heldout(claim: Claim) -> None:
    """Fill a policy's held-out slots, ask people to compare it, queue the scoring; finishes the attempt."""
    job = Job.objects.select_related("policy__study__recipe").get(pk=claim.job_id)
    if job.policy is None:
        raise JobFailed("The policy of this job is gone; there is nothing to sample from.")
    policy, recipe = job.policy, job.policy.study.recipe
    target = Target(policy.study, policy, None, slots_per_prompt=recipe.heldout_samples)
    refused = fill_slots(claim, target=target, parameters=heldout_settings(recipe))
    ask_for_evaluation(claim, sampled=policy)
    heartbeat(claim, message="Measuring how far the responses differ from earlier ones")
    measure_policy(policy)
    with transaction.atomic():
        finish_attempt(claim, message=refused.sentence)
        create_scoring_job(policy=policy)


@dataclass
class RefusedPrompts:
    """Prompts that the engine will not answer, whoever asks; the rest of the study goes on without them."""

    reasons: dict[int, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        if not self.reasons:
            return ""
        prompts = "1 prompt was" if len(self.reasons) == 1 else f"{len(self.reasons)} prompts were"
        prompt_id, reason = next(iter(self.reasons.items()))
        return f"{prompts} refused by the engine and left out; prompt {prompt_id}: {reason}"


def fill_slots(claim: Claim, *, target: Target, parameters: SamplingSettings) -> RefusedPrompts:
    """Ask for every empty slot of the target until none is left, through restarts of the engine.

    Raises JobFailed when the engine stays away for ten minutes or refuses every prompt, JobCancelled or
    AttemptSuperseded, all with nothing left in flight.
    """
    heartbeat(claim, done=target.sampled.count(), total=target.total)
    refused, patience = RefusedPrompts(), Patience()
    while slots := [slot for slot in missing_slots(target) if slot.prompt_id not in refused.reasons]:
        with RequestPool[Slot, Completion]() as pool:
            engines = published_engines(claim, policy=target.policy, pool=pool, patience=patience)
            heartbeat(claim, message=f"Sampling from {target.policy.label}")
            session = Session(claim, target, parameters, itertools.cycle(engines), pool, refused, patience)
            session.run(slots)
        if session.trouble:
            patience.lose(session.trouble)
            pause(claim, seconds=patience.pause_seconds, message=ENGINE_LOST)
    if refused.reasons and not target.sampled.exists():
        raise JobFailed(f"The engine refused every prompt. {refused.sentence}")
    return refused


@dataclass
class Session:
    """One stretch of sampling from engines that are up; it ends when all is answered or an engine is lost."""

    claim: Claim
    target: Target
    parameters: SamplingSettings
    engines: Iterator[Engine]
    pool: RequestPool[Slot, Completion]
    refused: RefusedPrompts
    patience: Patience
    trouble: str = ""
    last_beat: float = 0.0

    def run(self, slots: list[Slot]) -> None:
        """Keep many requests in flight; after a loss, take in what still arrives and end."""
        waiting = deque(slots)
        while self.pool.in_flight or (waiting and not self.trouble):
            while waiting and not self.trouble and self.pool.in_flight < settings.SAMPLING_CONCURRENCY:
                self._ask(waiting.popleft())
            outcome = self.pool.next_outcome(timeout=TICK_SECONDS)
            again = self._take(outcome) if outcome is not None else None
            if again is not None:
                waiting.appendleft(again)
            self._beat()

    def _ask(self, slot: Slot) -> None:
        if slot.prompt_id in self.refused.reasons:
            return
        messages = Prompt.objects.values_list("messages", flat=True).get(pk=slot.prompt_id)
        engine = next(self.engines)
        self.pool.submit(slot, lambda: engine.sample(messages, parameters=self.parameters))

    def _take(self, outcome: Outcome[Slot, Completion]) -> Slot | None:
        """Store an answer; returns the slot when it is to be asked for once more."""
        if outcome.answer is None:
            self._note_failure(outcome.key, error=outcome.error)
            return None
        self.patience.answered()
        new = self._response(outcome.answer)
        stored = store_response(self.claim, target=self.target, slot=outcome.key, new=new)
        resample = stored is Stored.IDENTICAL
        return replace(outcome.key, resamples=outcome.key.resamples + 1) if resample else None

    def _note_failure(self, slot: Slot, *, error: Exception | None) -> None:
        match error:
            case EngineRefused(status=status) if status in PROMPT_REFUSED:
                self.refused.reasons[slot.prompt_id] = error.message
            case EngineRefused(status=status) if status == MODEL_UNKNOWN:
                self.trouble = str(error)
            case EngineError(is_transient=True):
                self.trouble = str(error)
            case EngineError():
                raise JobFailed(str(error)) from error
            case Exception():
                raise error

    def _response(self, completion: Completion) -> NewResponse:
        return NewResponse(
            text=completion.text,
            prompt_token_ids=list(completion.prompt_token_ids),
            token_ids=list(completion.token_ids),
            logprobs=list(completion.logprobs),
            finish_reason=completion.finish_reason,
            settings=self.parameters.as_request(),
        )

    def _beat(self) -> None:
        if time.monotonic() - self.last_beat >= BEAT_SECONDS:
            heartbeat(self.claim)
            self.last_beat = time.monotonic()
            if self.target.round is None and round_sampling_waits():
                raise MadeWay


def round_sampling_waits() -> bool:
    """Return whether people wait for a round's first pairs."""
    return Job.objects.filter(kind=Job.Kind.SAMPLING, state=Job.State.QUEUED).exists()
