"""A server with what sampling uses of vLLM's interface, for faults that a healthy vLLM does not show.

It answers 500, hangs, hangs up or repeats itself when a test says so. What sampling does with real responses
is tested on the real engine.
"""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[["Request"], str]


class HangUp(Exception):
    """Close the connection in the middle of a request."""


class Answer(Exception):
    """Answer with this status and message instead of a completion."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Request:
    """The `number`th chat request since the server started, counting from 0."""

    number: int
    model: str
    prompt: str
    settings: dict[str, Any]


@dataclass
class FaultyEngine:
    """`behaviour` says what each chat request gets; `hung` counts requests whose client went away."""

    base_model: str
    url: str = ""
    behaviour: Behaviour = lambda request: f"answer {request.number}"
    adapters: dict[str, str] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    abandoned: int = 0
    reference_logp: Callable[[int], float] = lambda token: -0.5
    lock: threading.Lock = field(default_factory=threading.Lock)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def hang(self, connection: Any, *, seconds: float = 60) -> None:
        """Wait until the client goes away."""
        connection.settimeout(seconds)
        if connection.recv(1) == b"":
            with self.lock:
                self.abandoned += 1
        raise HangUp


@contextmanager
def faulty_engine(*, base_model: str) -> Iterator[FaultyEngine]:
    engine = FaultyEngine(base_model=base_model)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(engine))
    server.daemon_threads = True
    engine.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def _handler(engine: FaultyEngine) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            base = {"id": "base", "root": engine.base_model, "parent": None, "max_model_len": 512}
            adapters = [
                {"id": name, "root": root, "parent": "base", "max_model_len": 512}
                for name, root in engine.adapters.items()
            ]
            self._send(200, {"data": [base, *adapters]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/v1/completions":
                self._send(200, _scored(body, logp=engine.reference_logp))
                return
            with engine.lock:
                request = Request(
                    number=next(engine.numbers),
                    model=body["model"],
                    prompt=body["messages"][-1]["content"],
                    settings=body,
                )
                engine.requests.append(request)
                engine.at_once += 1
                engine.most_at_once = max(engine.most_at_once, engine.at_once)
            try:
                self._send(200, _completion(request, text=self._behave(request)))
            except Answer as answer:
                self._send(answer.status, {"error": {"message": answer.message}})
            except HangUp:
                self.close_connection = True
            finally:
                with engine.lock:
                    engine.at_once -= 1

        def _behave(self, request: Request) -> str:
            text = engine.behaviour(request)
            if text == HANG:
                engine.hang(self.connection)
            return text

        def _send(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return Handler


HANG = "\0hang"


def slow(seconds: float) -> Behaviour:
    """Answer every request after a while."""

    def behave(request: Request) -> str:
        time.sleep(seconds)
        return f"answer {request.number}"

    return behave


def _scored(body: dict[str, Any], *, logp: Callable[[int], float]) -> dict[str, Any]:
    entries = [None, *({str(token): {"logprob": logp(token)}} for token in body["prompt"][1:])]
    return {"model": body["model"], "choices": [{"prompt_logprobs": entries}]}


def _completion(request: Request, *, text: str) -> dict[str, Any]:
    tokens = [*range(3, 3 + len(text.split())), 2]
    return {
        "model": request.model,
        "prompt_token_ids": [1, 5, 6],
        "choices": [
            {
                "message": {"content": text},
                "finish_reason": "stop",
                "token_ids": tokens,
                "logprobs": {"content": [{"logprob": -0.25} for _ in tokens]},
            }
        ],
    }
