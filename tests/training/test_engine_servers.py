"""Which base model the managed engine should serve, and what pages learn of the engines."""

from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone
from pytest_django import Settings

from tests.support.faulty_engine import faulty_engine
from tests.training.factories import attempt_of, make_job, make_round, make_study
from training.models import EngineServer, Job
from training.selectors.engine import engine_overview
from training.services import engine_servers
from training.services.engine_servers import ManagedServer, refresh_external_servers, wanted_base_model
from training.services.engines import engine_urls, want_base_model
from training.services.jobs import claim_attempt, finish_attempt
from training.serving.manager import EngineState, Status

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def state(
    status: Status = Status.READY, *, url: str = "http://127.0.0.1:1", base: str = "/models/a"
) -> EngineState:
    return EngineState(
        state=status,
        base_model=base,
        served_name="a-1",
        url=url,
        pid=7,
        since=timezone.now() - timedelta(seconds=20),
        detail="Said by the manager.",
    )


def test_nothing_is_wanted_before_there_is_a_study() -> None:
    assert wanted_base_model() is None


def test_newest_study_decides_until_a_job_is_open() -> None:
    older = make_study(base_model="/models/a")
    make_study(base_model="/models/b")
    assert wanted_base_model() == "/models/b"
    job = make_job(older, round=make_round(older))
    assert wanted_base_model() == "/models/a"
    finish_attempt(claim_attempt(attempt_of(job).pk))
    assert wanted_base_model() == "/models/b"


def test_job_that_needs_a_base_model_moves_the_managed_engine() -> None:
    study = make_study(base_model="/models/b")
    manager = ManagedServer()
    manager.report(state(base="/models/a"))
    want_base_model(study=study, base_model="/models/b")
    server = EngineServer.objects.get()
    assert (server.wanted_base_model, server.wanted_by) == ("/models/b", study.name)
    assert manager.desired_base() == "/models/b"
    assert engine_urls(base_model="/models/b") == []
    manager.report(state(base="/models/b", url="http://127.0.0.1:2"))
    assert engine_urls(base_model="/models/b") == ["http://127.0.0.1:2"]


def test_managed_engine_has_one_row_whatever_its_port() -> None:
    manager = ManagedServer()
    manager.report(state(url="http://127.0.0.1:1"))
    manager.report(state(url="http://127.0.0.1:2", status=Status.WARMING))
    server = EngineServer.objects.get()
    assert (server.url, server.state, server.pid) == ("http://127.0.0.1:2", "warming", 7)


def test_database_that_is_locked_leaves_the_engine_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    make_study(base_model="/models/a")
    manager = ManagedServer()
    assert manager.desired_base() == "/models/a"

    def locked(*_: object) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(engine_servers, "wanted_base_model", locked)
    monkeypatch.setattr(engine_servers, "write_state", locked)
    assert manager.desired_base() == "/models/a"
    manager.report(state())


def test_overview_says_how_long_the_engine_has_been_starting() -> None:
    ManagedServer().report(state(Status.STARTING))
    overview = engine_overview()
    assert overview.state == "starting"
    assert overview.sentence == "Starting, 20 s. Said by the manager."


def test_engine_that_is_not_heard_from_is_not_called_ready() -> None:
    ManagedServer().report(state())
    assert engine_overview().state == "ready"
    EngineServer.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=2))
    overview = engine_overview()
    assert overview.state == "stopped"
    assert "has not been heard from for 2\N{NO-BREAK SPACE}min" in overview.sentence


def test_overview_without_any_engine() -> None:
    assert engine_overview().state == "stopped"


def test_servers_of_your_own_are_asked_what_they_serve(settings: Settings) -> None:
    with faulty_engine(base_model="/models/a") as engine:
        settings.VLLM_URLS = [engine.url, "http://127.0.0.1:9"]
        ManagedServer().report(state(url="http://127.0.0.1:3"))
        refresh_external_servers()
        up, down = (EngineServer.objects.get(url=url) for url in settings.VLLM_URLS)
        assert (up.state, up.base_model, up.managed) == ("ready", "/models/a", False)
        assert (down.state, down.base_model) == ("failed", "")
        assert "did not answer" in down.detail
        assert not EngineServer.objects.filter(managed=True).exists()
        assert engine_overview().state == "ready"
        since = up.since
        refresh_external_servers()
        up.refresh_from_db()
        assert up.since == since
    settings.VLLM_URLS = []
    refresh_external_servers()
    assert not EngineServer.objects.exists()


def test_run_and_sampling_go_first_in_their_queues() -> None:
    from training.services.carrier import queue_named, rq_job_id
    from training.services.jobs import create_job

    study = make_study()
    policy = study.policies.get()
    scoring = create_job(study=study, kind=Job.Kind.SCORING, policy=policy)
    run = create_job(study=study, kind=Job.Kind.RUN, round=make_round(study))
    order = queue_named("training").get_job_ids()
    assert order == [rq_job_id(attempt_of(run).pk), rq_job_id(attempt_of(scoring).pk)]
