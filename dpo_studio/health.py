"""Whether the product can serve labels, for load balancers and for people with curl."""

from collections.abc import Callable

import redis
from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET

from training.selectors.engine import engine_overview


@login_not_required
@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """The web process answers: 200 whatever its surroundings are."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_GET
def readyz(request: HttpRequest) -> JsonResponse:
    """Labels can be served: 503 without the database. Queue and engine are reported and do not decide."""
    database = probe(database_state)
    engine = {"state": "unknown"} if database["state"] != "ok" else probe(engine_state)
    body = {"database": database, "queue": probe(queue_state), "engine": engine}
    ready = database["state"] == "ok"
    return JsonResponse({"status": "ok" if ready else "unavailable", **body}, status=200 if ready else 503)


def probe(check: Callable[[], dict[str, str]]) -> dict[str, str]:
    """Run one check; what it raises becomes its state, without leaking addresses to strangers."""
    try:
        return check()
    except (DatabaseError, redis.RedisError, OSError) as error:
        return {"state": "unreachable", "detail": type(error).__name__}


def database_state() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM annotate_study LIMIT 1")
    return {"state": "ok"}


def queue_state() -> dict[str, str]:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1)
    try:
        client.ping()
    finally:
        client.close()
    return {"state": "ok"}


def engine_state() -> dict[str, str]:
    overview = engine_overview()
    return {"state": overview.state, "detail": overview.sentence}
