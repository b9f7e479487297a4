"""Filling slots with responses from the engine, resumable at any moment and stopped within a second."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field, replace

from django.conf import settings
from django.db import transaction

from annotate.models import Prompt
from training.models import Job, Round
from training.services.comparison import measure_policy
from training.services.engines import (
    Answer,
    Engine,
    Patience,
    heldout_settings,
    pause,
    published_engines,
    sampling_settings,
)
from training.services.evaluation_pairs import ask_for_evaluation
from training.services.fleet import Fleet
from training.services.jobs import Claim, JobFailed, MadeWay, finish_attempt, heartbeat
from training.services.pair_choice import MARGIN, is_in_random_share
from training.services.reference_logps import create_reference_job
from training.services.request_pool import Outcome, RequestPool
from training.services.scoring import create_scoring_job
from training.services.slots import (
    RESPONSES_PER_PAIR,
    NewResponse,
    Slot,
    Stored,
    Target,
    choice_key,
    missing_slots,
    pair_up,
    prompts_without_pair,
    store_response,
)
from training.serving.client import SamplingSettings
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
    target = Target(opened.study, opened.sampled_policy, opened, slots_per_prompt=opened.samples_per_prompt)
    pair_up(claim, target=target)
    refused = fill_slots(claim, target=target, parameters=sampling_settings(opened.study.recipe))
    with transaction.atomic():
        finish_attempt(claim, message=refused.sentence)
        Round.objects.filter(pk=opened.pk).update(pairs_dropped=prompts_without_pair(opened).count())
        create_reference_job(round=opened)


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
        with RequestPool[Ask, Answer]() as pool:
            engines = published_engines(claim, policy=target.policy, pool=pool, patience=patience)
            heartbeat(claim, message=f"Sampling from {target.policy.label}")
            fleet = Fleet(engines, per_engine=settings.SAMPLING_CONCURRENCY)
            Session(claim, target, parameters, fleet, pool, refused, patience).run(slots)
        if fleet.is_gone:
            patience.lose(fleet.trouble)
            pause(claim, seconds=patience.pause_seconds, message=ENGINE_LOST)
    if refused.reasons and not target.sampled.exists():
        raise JobFailed(f"The engine refused every prompt. {refused.sentence}")
    return refused


@dataclass(frozen=True)
class Ask:
    """A slot that an engine was asked to fill."""

    slot: Slot
    engine: Engine


@dataclass
class Session:
    """One stretch of sampling from engines that are up.

    It ends when all is answered, when no engine is left, or when one that was lost may be back.
    """

    claim: Claim
    target: Target
    parameters: SamplingSettings
    fleet: Fleet
    pool: RequestPool[Ask, Answer]
    refused: RefusedPrompts
    patience: Patience
    last_beat: float = 0.0

    def run(self, slots: list[Slot]) -> None:
        """Keep many requests in flight at each engine; at the end, take in what still arrives."""
        waiting = deque(slots)
        while self.pool.in_flight or (waiting and not self._is_over):
            while waiting and not self._is_over and (engine := self.fleet.free_engine()):
                self._ask(waiting.popleft(), engine=engine)
            outcome = self.pool.next_outcome(timeout=TICK_SECONDS)
            again = self._take(outcome) if outcome is not None else None
            if again is not None:
                waiting.appendleft(again)
            self._beat()

    @property
    def _is_over(self) -> bool:
        return self.fleet.is_gone or self.fleet.should_regroup

    def _ask(self, slot: Slot, *, engine: Engine) -> None:
        if slot.prompt_id in self.refused.reasons:
            return
        messages, content_hash = Prompt.objects.values_list("messages", "content_hash").get(pk=slot.prompt_id)
        scored = self._needs_reference(content_hash)
        self.fleet.began(engine)
        self.pool.submit(
            Ask(slot, engine),
            lambda: engine.sample(messages, parameters=self.parameters, with_reference=scored),
        )

    def _needs_reference(self, content_hash: str) -> bool:
        """Return whether the pair of a prompt is chosen by margin; the reference's own margins are all 0."""
        item = self.target.round
        if item is None or item.pair_choice != MARGIN or self.target.policy.number == 0:
            return False
        if item.samples_per_prompt <= RESPONSES_PER_PAIR:
            return False
        key = choice_key(content_hash, round_number=item.number)
        return not is_in_random_share(key, share=item.random_share)

    def _take(self, outcome: Outcome[Ask, Answer]) -> Slot | None:
        """Store an answer; returns the slot when it is to be asked for once more."""
        slot, engine = outcome.key.slot, outcome.key.engine
        self.fleet.ended(engine)
        if outcome.answer is None:
            return self._note_failure(slot, engine=engine, error=outcome.error)
        self.patience.answered()
        new = self._response(outcome.answer)
        stored = store_response(self.claim, target=self.target, slot=slot, new=new)
        return replace(slot, resamples=slot.resamples + 1) if stored is Stored.IDENTICAL else None

    def _note_failure(self, slot: Slot, *, engine: Engine, error: Exception | None) -> Slot | None:
        """Note why an engine gave no answer; returns the slot when another engine is to be asked for it."""
        match error:
            case EngineRefused(status=status) if status in PROMPT_REFUSED:
                self.refused.reasons[slot.prompt_id] = error.message
                return None
            case EngineRefused(status=status) if status == MODEL_UNKNOWN:
                self.fleet.lose(engine, trouble=str(error))
            case EngineError(is_transient=True):
                self.fleet.lose(engine, trouble=str(error))
            case EngineError():
                raise JobFailed(str(error)) from error
            case Exception():
                raise error
        return slot

    def _response(self, answer: Answer) -> NewResponse:
        completion = answer.completion
        return NewResponse(
            text=completion.text,
            prompt_token_ids=list(completion.prompt_token_ids),
            token_ids=list(completion.token_ids),
            logprobs=list(completion.logprobs),
            finish_reason=completion.finish_reason,
            settings=self.parameters.as_request(),
            reference_logp=answer.reference_logp,
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
