"""What pages say about the engines."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils import timezone

from training.models import EngineServer
from training.templatetags.figures import duration

# The manager reports every five seconds, `reconcile` asks other servers every fifteen.
SILENCE = timedelta(seconds=40)


@dataclass(frozen=True)
class EngineOverview:
    """One state and one sentence for all vLLM servers together; `servers` has each."""

    state: str
    sentence: str
    servers: list[EngineServer]


def engine_overview() -> EngineOverview:
    """Return the state that matters to someone waiting for responses: ready if any server is."""
    servers = list(EngineServer.objects.order_by("url"))
    if not servers:
        return EngineOverview(state="stopped", sentence="No engine has been started yet.", servers=[])
    heard = [server for server in servers if not is_silent(server)]
    if not heard:
        return EngineOverview(state="stopped", sentence=silence_of(servers[0]), servers=servers)
    ready = [server for server in heard if server.state == EngineServer.State.READY]
    shown = (ready or heard)[0]
    return EngineOverview(state=shown.state, sentence=sentence_of(shown), servers=servers)


def is_silent(server: EngineServer) -> bool:
    """Return whether whoever writes the server's row has stopped doing so."""
    return server.heartbeat_at is None or timezone.now() - server.heartbeat_at > SILENCE


def sentence_of(server: EngineServer) -> str:
    """Return how a server fares, with the time it has taken while it starts."""
    if server.state in (EngineServer.State.STARTING, EngineServer.State.WARMING) and server.since:
        seconds = (timezone.now() - server.since).total_seconds()
        wanted = f" for {server.wanted_by}" if server.wanted_by and server.wanted_base_model else ""
        return f"{server.get_state_display()}{wanted}, {seconds:.0f} s. {server.detail}"
    return server.detail or server.get_state_display()


def silence_of(server: EngineServer) -> str:
    if server.heartbeat_at is None:
        return "The engine has not been heard from; make run or manage.py run_engine starts it."
    seconds = (timezone.now() - server.heartbeat_at).total_seconds()
    return (
        f"The engine has not been heard from for {duration(seconds)}; "
        "it starts again by itself while make run is up."
    )
