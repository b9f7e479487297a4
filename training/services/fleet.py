"""Several engines at work on one job: who takes the next request, and what happens when one is lost."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from training.services.engines import Engine

# A server that was lost is asked again after so long, while the others go on.
REJOIN_SECONDS = 30.0


@dataclass
class Fleet:
    """Engines that serve the same policy. `per_engine` requests at most are in flight at each."""

    engines: list[Engine]
    per_engine: int
    in_flight: Counter[str] = field(default_factory=Counter)
    trouble: str = ""
    lost_at: float | None = None

    @property
    def is_gone(self) -> bool:
        """Return whether no engine is left."""
        return not self.engines

    @property
    def should_regroup(self) -> bool:
        """Return whether a lost engine may be back, so that this stretch of work is to end."""
        return self.lost_at is not None and time.monotonic() - self.lost_at > REJOIN_SECONDS

    def free_engine(self) -> Engine | None:
        """Return the engine with the fewest requests in flight, so that a faster one gets more; None when
        all are busy.
        """
        free = [one for one in self.engines if self.in_flight[one.client.url] < self.per_engine]
        return min(free, key=lambda one: self.in_flight[one.client.url], default=None)

    def began(self, engine: Engine) -> None:
        self.in_flight[engine.client.url] += 1

    def ended(self, engine: Engine) -> None:
        self.in_flight[engine.client.url] -= 1

    def lose(self, engine: Engine, *, trouble: str) -> None:
        """Send nothing more to an engine; what it still answers counts."""
        self.engines = [one for one in self.engines if one.client.url != engine.client.url]
        self.trouble = trouble
        self.lost_at = self.lost_at or time.monotonic()
