"""What the top bar says of the machinery: engine, queue, processes."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.utils import timezone

from annotate.models import Membership, Role, User
from dpo_studio.processes.status import ProcessState, process_states
from training.models import EngineServer
from training.selectors.engine import EngineOverview, engine_overview
from training.templatetags.figures import duration

# The managed engine writes a heartbeat every few seconds.
ENGINE_SILENT_AFTER = timedelta(seconds=20)
# For how long a process that was started again is still worth a word.
RESTART_SHOWN_FOR = timedelta(minutes=10)
TONES = {"ready": "good", "starting": "live", "warming": "live", "failed": "bad", "silent": "bad"}


@dataclass(frozen=True)
class ProcessLine:
    """A process of this machine: whether it is up, and when it was started again, if it was lately."""

    name: str
    is_up: bool
    says: str
    restarted_at: datetime | None


@dataclass(frozen=True)
class StatusBar:
    """The engine for everyone; `trouble` and `processes` are empty for those who lead no study."""

    engine: EngineOverview
    engine_state: str
    engine_seconds: float | None
    trouble: list[str] = field(default_factory=list)
    processes: list[ProcessLine] = field(default_factory=list)

    @property
    def restarted(self) -> list[ProcessLine]:
        return [line for line in self.processes if line.is_up and line.restarted_at]

    @property
    def tone(self) -> str:
        """Return the pill's colour."""
        if self.trouble:
            return "bad"
        return "warn" if self.restarted else TONES.get(self.engine_state, "warn")

    @property
    def short(self) -> str:
        """Return what the pill says: the worst that is known."""
        if self.trouble:
            return "Trouble" if len(self.trouble) > 1 else self.trouble[0].partition(":")[0]
        if self.restarted and self.engine_state == "ready":
            return f"{self.restarted[0].name.capitalize()} restarted"
        return f"Engine {self.engine_state}"


def status_bar(user: User) -> StatusBar:
    """Return the state of the machinery, as much of it as the person may know."""
    now = timezone.now()
    engine = engine_overview()
    state = "silent" if silent_servers(engine, now=now) else engine.state
    since = engine.servers[0].since if engine.servers else None
    seconds = (now - since).total_seconds() if since and state in ("starting", "warming") else None
    if not leads_a_study(user):
        return StatusBar(engine=engine, engine_state=state, engine_seconds=seconds)
    processes = [line_of(process, now=now) for process in known_processes()]
    return StatusBar(
        engine=engine,
        engine_state=state,
        engine_seconds=seconds,
        trouble=trouble(processes, engine=engine, now=now),
        processes=processes,
    )


def leads_a_study(user: User) -> bool:
    return user.is_superuser or Membership.objects.filter(user=user, role=Role.LEAD).exists()


def known_processes() -> list[ProcessState]:
    """Return what the process manager here says; nothing where the parts are run in another way."""
    return process_states(Path(settings.STUDIO_HOME) / "run" / "supervisor.sock")


def line_of(process: ProcessState, *, now: datetime) -> ProcessLine:
    restarted = process.is_up and process.ended_at is not None and now - process.ended_at < RESTART_SHOWN_FOR
    return ProcessLine(
        name=process.name,
        is_up=process.is_up,
        says=process.description if process.is_up else down_sentence(process),
        restarted_at=process.since if restarted else None,
    )


def down_sentence(process: ProcessState) -> str:
    if process.state == "FATAL":
        return f"gave up starting; its log is log/{process.name}.log below STUDIO_HOME"
    if process.exit_status is None:
        return process.state.lower()
    ended = "was killed" if process.exit_status < 0 else f"ended with status {process.exit_status}"
    return f"{ended} and is being started again" if process.state == "BACKOFF" else ended


def trouble(processes: list[ProcessLine], *, engine: EngineOverview, now: datetime) -> list[str]:
    """Return a sentence for whatever keeps work from being done; what stands before the colon names it."""
    sentences = (
        [] if queue_answers() else ["Queue unreachable: Valkey does not answer, so jobs wait until it does."]
    )
    down = [line for line in processes if not line.is_up]
    sentences += [f"{line.name.capitalize()} is down: it {line.says}." for line in down]
    return sentences + [
        f"Engine silent: {server.url} has not been heard from for {duration((now - heard).total_seconds())}."
        for server, heard in silent_servers(engine, now=now)
    ]


def silent_servers(engine: EngineOverview, *, now: datetime) -> list[tuple[EngineServer, datetime]]:
    """Return managed servers that claim to be up yet no longer say so, with when they last did."""
    up = (EngineServer.State.STARTING, EngineServer.State.WARMING, EngineServer.State.READY)
    return [
        (server, server.heartbeat_at)
        for server in engine.servers
        if server.managed and server.state in up and server.heartbeat_at
        if now - server.heartbeat_at > ENGINE_SILENT_AFTER
    ]


def queue_answers() -> bool:
    """Return whether Valkey answers within a second."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()
