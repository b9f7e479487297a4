"""The rows that say how the vLLM servers fare, and which base model the managed one should serve."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime

from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from annotate.models import Study
from training.models import EngineServer, Job, Recipe
from training.serving.client import EngineClient
from training.serving.errors import EngineError
from training.serving.manager import EngineState

logger = logging.getLogger(__name__)

ACTIVE_STATES = (Job.State.QUEUED, Job.State.RUNNING)
SECONDS_FOR_AN_ANSWER = 5


class ManagedServer:
    """The database side of the engine manager: what is wanted comes from there, what happens goes there.

    A database that is locked or away for a moment changes nothing about the engine: the last answer holds.
    """

    def __init__(self) -> None:
        self._wanted: str | None = None

    def desired_base(self) -> str | None:
        """Return the base model that is needed now, None before there is any study."""
        try:
            self._wanted = wanted_base_model()
        except DatabaseError as error:
            logger.warning("the database cannot be asked which base model is needed: %s", error)
        return self._wanted

    def report(self, state: EngineState) -> None:
        """Write the engine's state where every page reads it."""
        try:
            write_state(state)
        except DatabaseError as error:
            logger.warning("the engine's state %s could not be written: %s", state.state, error)


def wanted_base_model() -> str | None:
    """Return what a job has asked for, else what the newest open job needs, else the newest study's base."""
    asked = EngineServer.objects.filter(managed=True).exclude(wanted_base_model="").first()
    if asked is not None:
        return asked.wanted_base_model
    job = Job.objects.filter(state__in=ACTIVE_STATES).order_by("-pk").select_related("study__recipe").first()
    if job is not None:
        return job.study.recipe.base_model
    recipes = Recipe.objects.exclude(study__state=Study.State.CLOSED).order_by("-study")
    newest: str | None = recipes.values_list("base_model", flat=True).first()
    return newest


def write_state(state: EngineState) -> None:
    """Write the managed server's row: one, whatever port the server has this time."""
    values = {
        "url": state.url,
        "state": state.state.value,
        "base_model": state.base_model,
        "pid": state.pid,
        "detail": state.detail,
        "since": state.since,
        "heartbeat_at": timezone.now(),
    }
    if not EngineServer.objects.filter(managed=True).update(**values):
        EngineServer.objects.create(managed=True, **values)


def refresh_external_servers() -> None:
    """Ask each server of VLLM_URLS what it serves; rows of servers that are not named any more go."""
    urls = list(settings.VLLM_URLS)
    EngineServer.objects.filter(managed=False).exclude(url__in=urls).delete()
    if not urls:
        return
    EngineServer.objects.filter(managed=True).delete()
    for url, (base_model, trouble) in zip(urls, asyncio.run(_ask_all(urls)), strict=True):
        _write_external(url, base_model=base_model, trouble=trouble, now=timezone.now())


def _write_external(url: str, *, base_model: str, trouble: str, now: datetime) -> None:
    state = EngineServer.State.FAILED if trouble else EngineServer.State.READY
    detail = trouble or f"Serving {base_model}."
    server, _ = EngineServer.objects.get_or_create(url=url, defaults={"managed": False, "since": now})
    since = now if server.state != state else server.since
    EngineServer.objects.filter(pk=server.pk).update(
        managed=False, state=state, base_model=base_model, detail=detail, since=since, heartbeat_at=now
    )


async def _ask_all(urls: list[str]) -> list[tuple[str, str]]:
    return list(await asyncio.gather(*(_ask(url) for url in urls)))


async def _ask(url: str) -> tuple[str, str]:
    """Return the server's base model and an empty text, or an empty text and what is wrong."""
    async with EngineClient(url) as client:
        try:
            served = await asyncio.wait_for(client.base_model(), timeout=SECONDS_FOR_AN_ANSWER)
        except EngineError as error:
            return "", str(error)
        except TimeoutError:
            return "", f"The engine at {url} has not answered for {SECONDS_FOR_AN_ANSWER} s."
        return served.root, ""
