"""The net under the loop: what died, got lost or was left behind is found here, every few seconds."""

from __future__ import annotations

import fcntl
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.utils import timezone

from annotate.services.queue import release_expired_leases
from annotate.services.table_statistics import refresh_statistics
from training.models import Attempt, Job
from training.services.carrier import attempts_lost_by_queue, carry
from training.services.engine_servers import refresh_external_servers
from training.services.jobs import AttemptSuperseded, replace_lost_attempt
from training.services.processes import ProcessIdentity, is_gone

logger = logging.getLogger(__name__)

LEFTOVER_AGE = timedelta(hours=1)
SWEPT_FOLDERS = ("runs", "policies")


@dataclass(frozen=True)
class Reconciled:
    """What one pass put right."""

    requeued: int
    replaced: int
    leases_released: int
    leftovers_removed: int

    def __str__(self) -> str:
        return (
            f"{self.requeued} attempts put back into the queue, {self.replaced} dead attempts replaced, "
            f"{self.leases_released} leases released, {self.leftovers_removed} leftovers removed"
        )

    @property
    def found_something(self) -> bool:
        return bool(self.requeued or self.replaced or self.leases_released or self.leftovers_removed)


def reconcile() -> Reconciled | None:
    """Put right what has gone wrong since the last pass; None when another pass is at work."""
    with _alone() as alone:
        if not alone:
            return None
        now = timezone.now()
        refresh_external_servers()
        refresh_statistics()
        return Reconciled(
            replaced=replace_dead_attempts(now=now),
            requeued=requeue_lost_attempts(now=now),
            leases_released=release_expired_leases(now),
            leftovers_removed=sweep_leftovers(now=now),
        )


@contextmanager
def _alone() -> Iterator[bool]:
    path = Path(settings.STUDIO_HOME) / "run" / "reconcile.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def replace_dead_attempts(*, now: datetime) -> int:
    """Replace each running attempt whose process has ended, or, on another host, whose lease ran out."""
    running = Attempt.objects.filter(state=Attempt.State.RUNNING).select_related("job")
    return sum(_replaced(attempt) for attempt in running if is_dead(attempt, now=now))


def is_dead(attempt: Attempt, *, now: datetime) -> bool:
    """On its own host a process is looked up; on another one only its lease can tell."""
    identity = ProcessIdentity(host=attempt.host, pid=attempt.pid or 0, started=attempt.pid_started)
    gone = is_gone(identity)
    return gone if gone is not None else attempt.lease_until is None or attempt.lease_until < now


def _replaced(attempt: Attempt) -> bool:
    try:
        state = replace_lost_attempt(attempt)
    except AttemptSuperseded:
        return False
    logger.warning(
        "%s lost its process %s on %s; it is %s now", attempt.job, attempt.pid, attempt.host, state
    )
    return True


def requeue_lost_attempts(*, now: datetime) -> int:
    """Carry each queued attempt that no queue holds; running one twice is ruled out by its claim."""
    try:
        lost = attempts_lost_by_queue(now=now)
    except redis.RedisError as error:
        logger.warning("the queue cannot be reached: %s", error)
        return 0
    return sum(carry(attempt.pk, kind=Job.Kind(attempt.job.kind)) for attempt in lost)


def sweep_leftovers(*, now: datetime) -> int:
    """Remove *.tmp files and folders that no write has touched for an hour."""
    oldest = now.timestamp() - LEFTOVER_AGE.total_seconds()
    roots = [Path(settings.STUDIO_HOME) / folder for folder in SWEPT_FOLDERS]
    leftovers = [path for root in roots for path in root.rglob("*.tmp") if newest_change(path) < oldest]
    for path in leftovers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


def newest_change(path: Path) -> float:
    """Return the latest modification time in a file or folder, in seconds; now, if it vanishes meanwhile."""
    try:
        return max(entry.lstat().st_mtime for entry in [path, *path.rglob("*")])
    except FileNotFoundError:
        return time.time()
