"""What the top bar says of the machinery: engine, queue, processes."""

from dataclasses import dataclass

import redis
from django.conf import settings

from annotate.models import Membership, Role, User
from training.selectors.engine import EngineOverview, engine_overview


@dataclass(frozen=True)
class StatusBar:
    """The engine for everyone; `trouble` and `processes` for those who lead a study."""

    engine: EngineOverview
    trouble: list[str]

    @property
    def tone(self) -> str:
        if self.trouble:
            return "bad"
        return {"ready": "good", "starting": "live", "warming": "live", "failed": "bad"}.get(
            self.engine.state, "warn"
        )

    @property
    def short(self) -> str:
        return "Trouble" if self.trouble else f"Engine {self.engine.state}"


def status_bar(user: User) -> StatusBar:
    leads = user.is_superuser or Membership.objects.filter(user=user, role=Role.LEAD).exists()
    return StatusBar(engine=engine_overview(), trouble=trouble() if leads else [])


def trouble() -> list[str]:
    return (
        [] if queue_answers() else ["The job queue (Valkey) cannot be reached: jobs wait until it is back."]
    )


def queue_answers() -> bool:
    """Return whether Valkey answers within a second."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()
