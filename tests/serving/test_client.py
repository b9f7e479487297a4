"""What the client makes of answers that a healthy vLLM never gives; healthy ones are in test_engine.py."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from training.serving.client import EngineClient, SamplingSettings
from training.serving.errors import EngineRefused, EngineUnreachable, UnreadableAnswer, WrongModel
from training.serving.manager import free_port

CHAT = {
    "model": "base",
    "prompt_token_ids": [1, 2],
    "choices": [
        {
            "message": {"content": "Hi."},
            "token_ids": [7, 8, 2],
            "logprobs": {"content": [{"logprob": -0.5}, {"logprob": -0.25}, {"logprob": -2.0}]},
            "finish_reason": "stop",
        }
    ],
}


@contextmanager
def server(*, status: int = 200, body: Any = None, raw: bytes | None = None) -> Iterator[str]:
    """A server that gives every request the same answer, or hangs up where `raw` is empty."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = json.dumps(body).encode() if raw is None else raw
            if content:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        http.server_close()


def sample(url: str) -> Any:
    async def ask() -> Any:
        async with EngineClient(url) as client:
            message = {"role": "user", "content": "Hello"}
            return await client.sample([message], model="base", settings=SamplingSettings(max_tokens=3))

    return asyncio.run(ask())


def changed(change: Callable[[Any], Any]) -> Any:
    answer = json.loads(json.dumps(CHAT))
    change(answer)
    return answer


def test_answer_becomes_a_completion() -> None:
    with server(body=CHAT) as url:
        (completion,) = sample(url)
    assert completion.text == "Hi."
    assert completion.token_ids == (7, 8, 2)
    assert completion.prompt_token_ids == (1, 2)
    assert completion.logprobs == (-0.5, -0.25, -2.0)
    assert (completion.finish_reason, completion.model) == ("stop", "base")


def test_answer_of_another_model_is_refused() -> None:
    with (
        server(body=CHAT | {"model": "other"}) as url,
        pytest.raises(WrongModel, match="Asked for the model base"),
    ):
        sample(url)


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer.pop("prompt_token_ids"),
        lambda answer: answer.pop("model"),
        lambda answer: answer["choices"][0].pop("token_ids"),
        lambda answer: answer["choices"][0].update(token_ids=None),
        lambda answer: answer["choices"][0].update(logprobs=None),
        lambda answer: answer["choices"][0]["token_ids"].append(9),
    ],
)
def test_answer_without_what_was_asked_for_is_unreadable(change: Callable[[Any], Any]) -> None:
    with server(body=changed(change)) as url, pytest.raises(UnreadableAnswer, match=url) as refused:
        sample(url)
    assert not refused.value.is_transient


@pytest.mark.parametrize("raw", [b"<html>", b"[]", b"\xff"])
def test_answer_that_is_no_json_object_is_unreadable(raw: bytes) -> None:
    with server(raw=raw) as url, pytest.raises(UnreadableAnswer):
        sample(url)


def test_error_of_the_server_keeps_its_status_and_message() -> None:
    body = {"error": {"message": "The model `base` does not exist.", "code": 404}}
    with server(status=404, body=body) as url, pytest.raises(EngineRefused) as refused:
        sample(url)
    assert (refused.value.status, refused.value.message) == (404, "The model `base` does not exist.")
    assert not refused.value.is_transient


@pytest.mark.parametrize("raw", [b"Internal Server Error", b"{}"])
def test_error_without_a_message_shows_what_there_is(raw: bytes) -> None:
    with server(status=500, raw=raw) as url, pytest.raises(EngineRefused, match=raw.decode()) as refused:
        sample(url)
    assert refused.value.is_transient


def test_server_that_hangs_up_is_unreachable() -> None:
    with server(raw=b"") as url, pytest.raises(EngineUnreachable) as lost:
        sample(url)
    assert lost.value.is_transient
    assert url in str(lost.value)


def test_no_server_is_unreachable() -> None:
    url = f"http://127.0.0.1:{free_port('127.0.0.1')}"
    with pytest.raises(EngineUnreachable, match=r"did not answer \(.+\)"):
        sample(url)


def test_every_sampling_parameter_is_sent_and_no_seed() -> None:
    request = SamplingSettings(temperature=0.7, max_tokens=96).as_request()
    assert request == {
        "temperature": 0.7,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "max_tokens": 96,
        "min_tokens": 0,
        "stop": [],
        "ignore_eos": False,
        "skip_special_tokens": True,
    }
    assert SamplingSettings(seed=3).as_request()["seed"] == 3


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": -0.1}, "temperature = -0.1 must be at least 0; 1 samples the policy itself."),
        ({"top_p": 0.0}, "top_p = 0.0 must be above 0 and at most 1; 1 switches it off."),
        ({"top_k": -1}, "top_k = -1 must be at least 0; 0 switches it off."),
        ({"min_p": 1.5}, "min_p = 1.5 must be from 0 to 1; 0 switches it off."),
        ({"max_tokens": 0}, "max_tokens = 0 must be at least 1; 256 is usual."),
    ],
)
def test_impossible_settings_are_refused_with_the_remedy(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        SamplingSettings(**wrong)
    assert str(refused.value) == sentence
