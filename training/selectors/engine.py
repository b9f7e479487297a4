"""What pages say about the engines."""

from dataclasses import dataclass

from training.models import EngineServer


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
    ready = [server for server in servers if server.state == EngineServer.State.READY]
    shown = (ready or servers)[0]
    return EngineOverview(state=shown.state, sentence=shown.detail or shown.get_state_display(), servers=servers)
