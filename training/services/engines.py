"""Engines that serve what a job samples from: found or waited for, with the policy's adapter published."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from annotate.models import Study
from training.models import EngineServer, Policy, Recipe, SampledResponse
from training.services.base_models import download_model, is_downloaded
from training.services.jobs import Claim, JobFailed, heartbeat
from training.services.request_pool import RequestPool
from training.services.run_directories import absolute
from training.serving.adapters import AdapterCheck, ensure_adapter
from training.serving.client import Completion, EngineClient, Message, SamplingSettings
from training.serving.errors import EngineError

PATIENCE_SECONDS = 600
LONGEST_PAUSE_SECONDS = 15
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Answer:
    """A response, and where it was asked for its summed log-prob (nats) under the engine's base model."""

    completion: Completion
    reference_logp: float | None = None


@dataclass(frozen=True)
class Engine:
    """One server that serves the policy under `model` and the reference under `base`."""

    client: EngineClient
    model: str
    base: str

    async def sample(
        self, messages: Sequence[Message], *, parameters: SamplingSettings, with_reference: bool = False
    ) -> Answer:
        """Return one response to a chat. Raises EngineError."""
        (completion,) = await self.client.sample(messages, model=self.model, settings=parameters)
        if not with_reference:
            return Answer(completion)
        tokens = (*completion.prompt_token_ids, *completion.token_ids)
        logps = await self.client.prompt_logprobs(tokens, model=self.base)
        return Answer(completion, reference_logp=sum(logps[-len(completion.token_ids) :]))


@dataclass
class Patience:
    """For how long the engines have been away, counted from their last answer."""

    last_answer: float = field(default_factory=time.monotonic)
    losses: int = 0

    def answered(self) -> None:
        self.last_answer, self.losses = time.monotonic(), 0

    def lose(self, trouble: str) -> None:
        """Count a failure. Raises JobFailed when no engine has answered for ten minutes."""
        self.losses += 1
        if time.monotonic() - self.last_answer > PATIENCE_SECONDS:
            raise JobFailed(
                f"No engine has answered for {PATIENCE_SECONDS // 60} minutes: {trouble} Look into the "
                "engine's log, then retry; sampling goes on where it stopped."
            )

    @property
    def pause_seconds(self) -> float:
        """Return how long to wait before the next try: 1, 2, 4, … seconds."""
        return float(min(LONGEST_PAUSE_SECONDS, 2 ** min(self.losses - 1, 10)))


def sampling_settings(recipe: Recipe) -> SamplingSettings:
    """Return the recipe's settings. No seed: on a CPU it ends vLLM's engine; token ids are kept instead."""
    return SamplingSettings(
        temperature=recipe.temperature,
        top_p=recipe.top_p,
        top_k=recipe.top_k,
        min_p=recipe.min_p,
        max_tokens=recipe.max_new_tokens,
    )


def heldout_settings(recipe: Recipe) -> SamplingSettings:
    """Return the settings that every policy's held-out responses share: those of the first one sampled."""
    first = SampledResponse.objects.filter(policy__study=recipe.study_id, round=None).order_by("pk").first()
    if first is None:
        return sampling_settings(recipe)
    known = {entry.name for entry in fields(SamplingSettings)}
    stored: dict[str, Any] = {name: value for name, value in first.settings.items() if name in known}
    return SamplingSettings(**stored | {"stop": tuple(stored.get("stop", ()))})


def published_engines(
    claim: Claim, *, policy: Policy, pool: RequestPool[Any, Any], patience: Patience
) -> list[Engine]:
    """Return at least one engine that serves the policy, waiting for one where need be.

    A server that goes away while others answer is left out. Raises JobFailed when none comes up in ten
    minutes or an adapter proves unusable, JobCancelled or AttemptSuperseded.
    """
    while True:
        engines, trouble = [], ""
        for client in serving_clients(claim, policy=policy, pool=pool):
            try:
                engines.append(publish(claim, client=client, policy=policy, pool=pool))
            except EngineError as error:
                if not error.is_transient:
                    raise JobFailed(str(error)) from error
                trouble = str(error)
        if engines:
            return engines
        patience.lose(trouble)
        pause(claim, seconds=patience.pause_seconds, message="The engine is restarting")


def publish(claim: Claim, *, client: EngineClient, policy: Policy, pool: RequestPool[Any, Any]) -> Engine:
    """Have the engine serve the policy, its adapter proved by its log-probs. Raises EngineError."""
    base = pool.call(client.base_model, meanwhile=lambda: heartbeat(claim)).name
    if not policy.adapter_path:
        return Engine(client=client, model=base, base=base)
    heartbeat(claim, message=f"Publishing {policy.label} on the engine")
    path = absolute(policy.adapter_path)
    check: AdapterCheck = pool.call(
        lambda: ensure_adapter(client, name=policy.served_name, path=path), meanwhile=lambda: heartbeat(claim)
    )
    Policy.objects.filter(pk=policy.pk).update(probe_note=check.sentence[:300])
    return Engine(client=client, model=policy.served_name, base=base)


def serving_clients(claim: Claim, *, policy: Policy, pool: RequestPool[Any, Any]) -> list[EngineClient]:
    """Return a client of each engine that serves the study's base model, once there is one."""
    study, base_model = policy.study, policy.study.recipe.base_model
    fetch_base_model(claim, base_model=base_model, pool=pool)
    clients: dict[str, EngineClient] = {}
    began = time.monotonic()
    while True:
        want_base_model(study=study, base_model=base_model)
        asked = [_client(url, clients=clients, pool=pool) for url in engine_urls(base_model=base_model)]
        found = [client for client in asked if _serves(client, base_model=base_model, pool=pool, claim=claim)]
        if found:
            return found
        if time.monotonic() - began > PATIENCE_SECONDS:
            raise JobFailed(
                f"No engine came up in {PATIENCE_SECONDS // 60} minutes. {waiting_for(base_model)}."
            )
        pause(claim, seconds=POLL_SECONDS, message=waiting_for(base_model))


def fetch_base_model(claim: Claim, *, base_model: str, pool: RequestPool[Any, Any]) -> None:
    """Download a hub model that is not on this machine yet; the engine itself never goes to the hub.

    Raises JobFailed when it cannot be had. With servers of your own, what they serve is theirs to fetch.
    """
    if settings.VLLM_URLS or Path(base_model).is_dir() or is_downloaded(base_model):
        return
    download = partial(asyncio.to_thread, download_model, base_model)
    try:
        pool.call(download, meanwhile=lambda: heartbeat(claim, message=f"Downloading {base_model}"))
    except (OSError, ValueError) as error:
        raise JobFailed(
            f"{base_model} cannot be downloaded ({type(error).__name__}: {error}); check the network, or "
            "download it elsewhere and make a study with its folder."
        ) from error


def _client(url: str, *, clients: dict[str, EngineClient], pool: RequestPool[Any, Any]) -> EngineClient:
    if url not in clients:
        clients[url] = EngineClient(url)
        pool.at_exit(clients[url].close)
    return clients[url]


def _serves(client: EngineClient, *, base_model: str, pool: RequestPool[Any, Any], claim: Claim) -> bool:
    try:
        served = pool.call(client.base_model, meanwhile=lambda: heartbeat(claim))
    except EngineError:
        return False
    return bool(served.root == base_model)


def want_base_model(*, study: Study, base_model: str) -> None:
    """Ask the managed engine, if there is one, to move to this base model."""
    other = EngineServer.objects.filter(managed=True).exclude(wanted_base_model=base_model)
    other.update(wanted_base_model=base_model, wanted_by=study.name)


def engine_urls(*, base_model: str) -> list[str]:
    """Return the servers worth asking: your own by VLLM_URLS, or the managed one when it is ready."""
    if settings.VLLM_URLS:
        return list(settings.VLLM_URLS)
    ready = EngineServer.objects.filter(managed=True, state=EngineServer.State.READY, base_model=base_model)
    return list(ready.values_list("url", flat=True))


def waiting_for(base_model: str) -> str:
    """Return what a person reads while no engine serves the base model."""
    if settings.VLLM_URLS:
        return f"Waiting for a server of VLLM_URLS that serves {base_model}"
    server = EngineServer.objects.filter(managed=True).first()
    if server is None:
        return "Waiting for the engine: none is running; `make run` or `manage.py run_engine` starts it"
    if server.base_model != base_model:
        return "Waiting for the engine: it moves to this study's base model"
    seconds = f", {(timezone.now() - server.since).total_seconds():.0f} s" if server.since else ""
    return f"Waiting for the engine: {server.get_state_display().lower()}{seconds}"


def pause(claim: Claim, *, seconds: float, message: str) -> None:
    """Wait, with the lease renewed and an eye on cancellation."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        heartbeat(claim, message=message)
        time.sleep(min(left, POLL_SECONDS))
