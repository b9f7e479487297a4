"""A trial on the real engine: streamed, stopped, and refused by it."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.db import connections
from pytest_django import Settings

from tests.support.engine import LiveEngine
from tests.support.workers import wait_until
from tests.training.factories import make_study, make_trial
from training.models import Policy, Trial, TrialAnswer
from training.services.trial_engine import start_trial
from training.services.trials import stop_trial
from training.serving.client import EngineClient, Piece, SamplingSettings

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.django_db(transaction=True)]

END_OF_TURN = 2


@pytest.fixture
def policies(live_engine: LiveEngine, settings: Settings) -> tuple[Policy, Policy, Policy]:
    """The reference twice, under two numbers, and a policy whose adapter folder is gone."""
    settings.VLLM_URLS = [live_engine.url]
    study = make_study(base_model=live_engine.base_model)
    again = Policy.objects.create(study=study, number=1, served_name=f"{study.slug}-again")
    lost = Policy.objects.create(study=study, number=2, served_name=f"{study.slug}-lost", adapter_path="lost")
    return study.policies.get(number=0), again, lost


def trial_of(policies: tuple[Policy, ...], *, max_tokens: int) -> Trial:
    trial = make_trial(policies[0].study, text="Say hi in a few words.", policies=policies)
    trial.sampling = SamplingSettings(max_tokens=max_tokens).as_request()
    trial.save()
    return trial


def answer_of(trial: Trial, number: int) -> TrialAnswer:
    return trial.answers.get(policy__number=number)


def test_answers_are_written_down_while_they_come_and_an_unusable_adapter_fails_alone(
    policies: tuple[Policy, Policy, Policy],
) -> None:
    trial = trial_of(policies, max_tokens=24)
    start_trial(trial)
    wait_until(
        lambda: not trial.answers.filter(state__in=("waiting", "writing")).exists(), seconds=90, what="ends"
    )
    for number in (0, 1):
        answer = answer_of(trial, number)
        assert answer.state == TrialAnswer.State.DONE, answer.note
        assert answer.text
        assert len(answer.token_ids) == len(answer.logprobs) <= 24
        assert answer.prompt_token_ids
        assert (answer.token_ids[-1] == END_OF_TURN) == (answer.finish_reason == "stop")
    lost = answer_of(trial, 2)
    assert lost.state == TrialAnswer.State.FAILED
    assert "probe.json cannot be read" in lost.note
    join_trials()


def test_stopped_answer_keeps_what_it_had_and_frees_the_engine(
    policies: tuple[Policy, Policy, Policy], live_engine: LiveEngine
) -> None:
    trial = trial_of(policies[:2], max_tokens=2000)
    settings = trial.sampling | {"min_tokens": 2000}
    Trial.objects.filter(pk=trial.pk).update(sampling=settings)
    start_trial(trial)
    wait_until(lambda: len(answer_of(trial, 0).token_ids) > 2, seconds=90, what="the first tokens")
    assert stop_trial(trial) == 2
    join_trials()
    answer = answer_of(trial, 0)
    assert answer.state == TrialAnswer.State.STOPPED
    assert answer.text

    async def running() -> float:
        async with EngineClient(live_engine.url) as client:
            return (await client.metrics())["vllm:num_requests_running"]

    wait_until(lambda: asyncio.run(running()) == 0, seconds=10, what="an idle engine")


def join_trials() -> None:
    """Wait until the threads that ask the engine have closed their connections."""
    for thread in threading.enumerate():
        if thread.name.startswith("trial-"):
            thread.join(timeout=30)
            assert not thread.is_alive()
    connections.close_all()


def test_pieces_of_a_stream_make_the_whole_response(live_engine: LiveEngine) -> None:
    async def pieces() -> list[Piece]:
        async with EngineClient(live_engine.url) as client:
            stream = client.stream(
                [{"role": "user", "content": "Say hi."}],
                model=live_engine.served_name,
                settings=SamplingSettings(temperature=0.7, max_tokens=300),
            )
            return [piece async for piece in stream]

    found = asyncio.run(pieces())
    assert found[0].prompt_token_ids
    assert [piece.finish_reason for piece in found if piece.finish_reason] == [found[-1].finish_reason]
    assert all(len(piece.token_ids) == len(piece.logprobs) for piece in found)
    tokens = [token for piece in found for token in piece.token_ids]
    assert (tokens[-1] == END_OF_TURN) == (found[-1].finish_reason == "stop")
