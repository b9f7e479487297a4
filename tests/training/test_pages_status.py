"""The top bar: the engine for everyone, queue and processes for those who lead a study."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from django.utils import timezone
from pytest_django import Settings

from dpo_studio.processes.status import ProcessState
from tests.training.page_world import PageWorld, page_world
from training.models import EngineServer
from training.selectors.status import StatusBar, line_of, status_bar, trouble

pytestmark = pytest.mark.django_db
NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def world() -> PageWorld:
    return page_world()


@pytest.fixture
def no_queue(settings: Settings, tmp_path: Path) -> None:
    settings.REDIS_URL = f"unix://{tmp_path}/no-such.sock"


def process(**changes: object) -> ProcessState:
    values = {
        "name": "worker-training",
        "state": "RUNNING",
        "pid": 7,
        "since": NOW - timedelta(hours=1),
        "ended_at": None,
        "exit_status": None,
        "description": "pid 7, uptime 1:00:00",
        **changes,
    }
    return ProcessState(**values)  # type: ignore[arg-type]


def engine(**fields: object) -> EngineServer:
    now = timezone.now()
    values = {"url": "http://127.0.0.1:1", "state": "ready", "heartbeat_at": now, "since": now, **fields}
    return EngineServer.objects.create(**values)


def bar(world: PageWorld) -> StatusBar:
    return status_bar(world.lead_user)


@pytest.mark.usefixtures("valkey")
def test_everything_well_is_a_good_engine(world: PageWorld) -> None:
    engine()
    assert (bar(world).tone, bar(world).short) == ("good", "Engine ready")


@pytest.mark.usefixtures("valkey")
def test_engine_that_starts_says_for_how_long(world: PageWorld) -> None:
    engine(state="starting", since=timezone.now() - timedelta(seconds=20))
    html = world.lead.get("/status/").content.decode()
    assert re.search(r"Engine starting · 2\d\N{NO-BREAK SPACE}s", html)


@pytest.mark.usefixtures("no_queue")
def test_unreachable_queue_is_told_to_leads_only(world: PageWorld) -> None:
    engine()
    lead = world.lead.get("/status/").content.decode()
    assert "Queue unreachable" in lead
    assert "badge-bad" in lead
    annotator = world.annotator.get("/status/").content.decode()
    assert "Engine ready" in annotator
    assert "Queue" not in annotator


def test_managed_engine_that_stopped_reporting_is_called_silent(
    world: PageWorld, valkey: redis.Redis
) -> None:
    engine(heartbeat_at=timezone.now() - timedelta(seconds=25), url="http://127.0.0.1:9")
    (said,) = bar(world).trouble
    assert re.fullmatch(
        r"Engine silent: http://127.0.0.1:9 has not been heard from for (2|3)\d\N{NO-BREAK SPACE}s\.", said
    )
    html = world.annotator.get("/status/").content.decode()
    assert "Engine silent" in html
    assert "127.0.0.1:9" not in html


@pytest.mark.usefixtures("valkey")
def test_server_of_one_s_own_is_heard_from_less_often(world: PageWorld) -> None:
    engine(managed=False, heartbeat_at=timezone.now() - timedelta(seconds=25))
    assert bar(world).short == "Engine ready"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "BACKOFF", "exit_status": -1}, "was killed and is being started again"),
        ({"state": "BACKOFF", "exit_status": 3}, "ended with status 3 and is being started again"),
        ({"state": "EXITED", "exit_status": 0}, "ended with status 0"),
        ({"state": "FATAL"}, "gave up starting; its log is log/worker-training.log below STUDIO_HOME"),
        ({"state": "STOPPED"}, "stopped"),
    ],
)
def test_process_that_is_down_is_named_with_what_happened(changes: dict[str, object], said: str) -> None:
    assert line_of(process(**changes), now=NOW).says == said


@pytest.mark.usefixtures("valkey")
def test_process_that_is_down_is_trouble(world: PageWorld) -> None:
    line = line_of(process(state="BACKOFF", exit_status=-1), now=NOW)
    assert trouble([line], engine=bar(world).engine, now=NOW) == [
        "Worker-training is down: it was killed and is being started again."
    ]


def test_restart_is_mentioned_for_ten_minutes() -> None:
    restarted = process(ended_at=NOW - timedelta(minutes=2), since=NOW - timedelta(minutes=1))
    assert line_of(restarted, now=NOW).restarted_at == NOW - timedelta(minutes=1)
    assert line_of(restarted, now=NOW + timedelta(minutes=9)).restarted_at is None
    assert line_of(process(), now=NOW).restarted_at is None


def test_person_without_a_study_sees_the_engine_only(world: PageWorld) -> None:
    html = world.viewer.get("/status/").content.decode()
    assert "No engine has been started yet." in html
    assert "status-processes" not in html
