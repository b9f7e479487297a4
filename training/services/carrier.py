"""RQ carries the id of an attempt to a worker. What it knows beyond that decides nothing."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import redis
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from rq import Queue
from rq.serializers import JSONSerializer

from training.models import Attempt, Job

logger = logging.getLogger(__name__)

ENTRY_POINT = "training.jobs.run_attempt"
QUEUES = ("sampling", "training")
QUEUE_OF_KIND = {
    Job.Kind.SAMPLING: "sampling",
    Job.Kind.HELDOUT: "sampling",
    Job.Kind.RUN: "training",
    Job.Kind.LAST_LOOK: "training",
    Job.Kind.SCORING: "training",
    Job.Kind.REFERENCE: "training",
    Job.Kind.MERGE: "training",
    Job.Kind.SFT: "training",
}
# People wait for a round's pairs and for its policy, not in the same way for held-out responses and scores.
URGENT = (Job.Kind.SAMPLING, Job.Kind.RUN, Job.Kind.SFT)
# Between leaving the queue and being claimed an attempt is in neither place for a moment.
SETTLING = timedelta(seconds=20)
SECONDS_KEPT = 60


def queue_named(name: str) -> Queue:
    """Return an RQ queue that speaks JSON and fails fast when Valkey is away."""
    connection = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=5)
    return Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=-1)


def rq_job_id(attempt_id: int) -> str:
    return f"attempt-{attempt_id}"


def enqueue_attempt(attempt: Attempt) -> None:
    """Hand the attempt to a worker once the surrounding transaction has committed."""
    attempt_id, kind = attempt.pk, Job.Kind(attempt.job.kind)
    transaction.on_commit(lambda: carry(attempt_id, kind=kind))


def carry(attempt_id: int, *, kind: Job.Kind) -> bool:
    """Put the attempt into its queue; a queue that cannot be reached is left to `reconcile`."""
    try:
        queue_named(QUEUE_OF_KIND[kind]).enqueue_call(
            ENTRY_POINT,
            kwargs={"attempt": attempt_id},
            timeout=-1,
            result_ttl=SECONDS_KEPT,
            failure_ttl=SECONDS_KEPT,
            job_id=rq_job_id(attempt_id),
            at_front=kind in URGENT,
        )
    except redis.RedisError as error:
        logger.warning("attempt %s is not in the queue yet: %s", attempt_id, error)
        return False
    Attempt.objects.filter(pk=attempt_id).update(enqueued_at=timezone.now())
    return True


def attempts_lost_by_queue(*, now: datetime) -> list[Attempt]:
    """Return queued attempts that no queue holds (any more). Raises redis.RedisError when Valkey is away."""
    waiting = Attempt.objects.filter(state=Attempt.State.QUEUED).exclude(enqueued_at__gt=now - SETTLING)
    attempts = list(waiting.exclude(enqueued_at=None, created_at__gt=now - SETTLING).select_related("job"))
    if not attempts:
        return []
    carried = {job_id for name in QUEUES for job_id in queue_named(name).get_job_ids()}
    return [attempt for attempt in attempts if rq_job_id(attempt.pk) not in carried]
