"""A typed client of vLLM's OpenAI server: samples, scores token ids, publishes adapters."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from training.serving.errors import EngineRefused, EngineUnreachable, UnreadableAnswer, WrongModel

Message = Mapping[str, str]

# A request waits in the engine's queue before its first token, so only the whole of it has a limit worth
# setting.
DEFAULT_TIMEOUT = httpx.Timeout(600, connect=5)


@dataclass(frozen=True)
class SamplingSettings:
    """Every sampling parameter, each of which is sent: a server's own defaults come from the model's folder.

    `seed` stays None on a CPU, where a per-request seed makes vLLM 0.32's engine crash. Raises ValueError.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    max_tokens: int = 256
    min_tokens: int = 0
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def __post_init__(self) -> None:
        _check(
            "temperature", self.temperature, self.temperature >= 0, "at least 0; 1 samples the policy itself"
        )
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1; 1 switches it off")
        _check("top_k", self.top_k, self.top_k >= 0, "at least 0; 0 switches it off")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1; 0 switches it off")
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1; 256 is usual")

    def as_request(self) -> dict[str, Any]:
        """Return the parameters as vLLM's request fields."""
        fields = asdict(self) | {"stop": list(self.stop), "ignore_eos": False, "skip_special_tokens": True}
        return {name: value for name, value in fields.items() if value is not None}


def _check(name: str, value: float, holds: bool, wanted: str) -> None:
    if not holds:
        raise ValueError(f"{name} = {value} must be {wanted}.")


@dataclass(frozen=True)
class Completion:
    """One sampled response. `token_ids` end with the end-of-turn token where `finish_reason` is "stop".

    `logprobs` (nats, one per token id) are the engine's: good for display and ordering, never a training
    reference.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    model: str


@dataclass(frozen=True)
class Piece:
    """A part of a response while it is being generated; `finish_reason` is empty until the last one.

    `prompt_token_ids` come with the first piece alone. A piece may have tokens and no text: half a character.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    prompt_token_ids: tuple[int, ...]
    finish_reason: str


@dataclass(frozen=True)
class ServedModel:
    """A model that a server offers: the base (`parent` None, `root` its folder or hub id) or an adapter."""

    name: str
    root: str
    parent: str | None
    max_model_len: int | None


class EngineClient:
    """An asynchronous connection to one vLLM server; leaving a request cancels it there within a second.

    Every method raises EngineUnreachable, EngineRefused or UnreadableAnswer.
    """

    def __init__(self, url: str, *, timeout: httpx.Timeout = DEFAULT_TIMEOUT) -> None:
        self.url = url.rstrip("/")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
        # trust_env=False: the engine is a neighbour, which no proxy of the environment should stand before.
        self._http = httpx.AsyncClient(base_url=self.url, timeout=timeout, limits=limits, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections, which also cancels what is in flight."""
        await self._http.aclose()

    async def sample(
        self, messages: Sequence[Message], *, model: str, settings: SamplingSettings, n: int = 1
    ) -> tuple[Completion, ...]:
        """Return `n` responses of `model` to a chat. Raises WrongModel when another model answered."""
        request = {"model": model, "messages": [dict(message) for message in messages], "n": n}
        wanted = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}
        answer = await self._post("/v1/chat/completions", request | settings.as_request() | wanted)
        with _reading(self.url, answer):
            _require_model(answer, asked=model)
            prompt = tuple(answer["prompt_token_ids"])
            return tuple(
                _completion(choice, prompt_token_ids=prompt, model=model) for choice in answer["choices"]
            )

    async def stream(
        self, messages: Sequence[Message], *, model: str, settings: SamplingSettings
    ) -> AsyncIterator[Piece]:
        """Yield a response of `model` to a chat as it is generated; leaving ends it on the server too.

        Raises WrongModel when another model answered.
        """
        request = {"model": model, "messages": [dict(message) for message in messages], "stream": True}
        wanted = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}
        async for chunk in self._events("/v1/chat/completions", request | settings.as_request() | wanted):
            with _reading(self.url, chunk):
                _require_model(chunk, asked=model)
                for choice in chunk["choices"]:
                    yield _piece(choice, prompt_token_ids=tuple(chunk.get("prompt_token_ids") or ()))

    async def prompt_logprobs(self, token_ids: Sequence[int], *, model: str) -> tuple[float, ...]:
        """Return the log-prob (nats) under `model` of each token id after the first. Raises WrongModel."""
        request = {
            "model": model,
            "prompt": list(token_ids),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        answer = await self._post("/v1/completions", request)
        with _reading(self.url, answer):
            _require_model(answer, asked=model)
            scored = answer["choices"][0]["prompt_logprobs"][1:]
            return tuple(
                float(entry[str(token)]["logprob"])
                for token, entry in zip(token_ids[1:], scored, strict=True)
            )

    async def served_models(self) -> tuple[ServedModel, ...]:
        """Return the base and every adapter that the server has loaded."""
        answer = await self._get("/v1/models")
        with _reading(self.url, answer):
            return tuple(
                ServedModel(
                    row["id"], root=row["root"], parent=row["parent"], max_model_len=row["max_model_len"]
                )
                for row in answer["data"]
            )

    async def base_model(self) -> ServedModel:
        """Return the base that the server serves; `root` is the folder or hub id that it was started with."""
        for model in await self.served_models():
            if model.parent is None:
                return model
        raise UnreadableAnswer(self.url, "it lists no base model")

    async def load_adapter(self, name: str, *, path: Path) -> None:
        """Load the PEFT adapter in `path` under `name`, which must be new to the server."""
        await self._post(
            "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)}, reads_json=False
        )

    async def metrics(self) -> dict[str, float]:
        """Return vLLM's Prometheus figures by name, summed over their labels."""
        response = await self._send("GET", "/metrics")
        figures: dict[str, float] = {}
        for line in response.text.splitlines():
            if line and not line.startswith("#"):
                series, _, value = line.rpartition(" ")
                name = series.partition("{")[0]
                figures[name] = figures.get(name, 0.0) + float(value)
        return figures

    async def answers(self) -> bool:
        """Return whether the server's HTTP side is up; only a generated token shows that its engine is."""
        try:
            await self._send("GET", "/health")
        except (EngineUnreachable, EngineRefused):
            return False
        return True

    async def _get(self, path: str) -> dict[str, Any]:
        return self._json(await self._send("GET", path))

    async def _post(self, path: str, body: Mapping[str, Any], *, reads_json: bool = True) -> dict[str, Any]:
        response = await self._send("POST", path, body=body)
        return self._json(response) if reads_json else {}

    async def _send(self, method: str, path: str, *, body: Mapping[str, Any] | None = None) -> httpx.Response:
        try:
            response = await self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise EngineUnreachable(self.url, str(error) or type(error).__name__) from error
        if not response.is_success:
            raise EngineRefused(self.url, status=response.status_code, message=_error_message(response))
        return response

    async def _events(self, path: str, body: Mapping[str, Any]) -> AsyncIterator[dict[str, Any]]:
        """Yield the objects of a stream of server-sent events."""
        try:
            async with self._http.stream("POST", path, json=body) as response:
                if not response.is_success:
                    await response.aread()
                    message = _error_message(response)
                    raise EngineRefused(self.url, status=response.status_code, message=message)
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip()
                    if line.startswith("data:") and data != "[DONE]":
                        yield self._event(data)
        except httpx.HTTPError as error:
            raise EngineUnreachable(self.url, str(error) or type(error).__name__) from error

    def _event(self, data: str) -> dict[str, Any]:
        try:
            event = json.loads(data)
        except ValueError as error:
            raise UnreadableAnswer(self.url, "an event of its stream is not JSON") from error
        if not isinstance(event, dict):
            raise UnreadableAnswer(self.url, f"an event of its stream is a {type(event).__name__}")
        if "error" in event:
            raise EngineRefused(self.url, status=500, message=str(event["error"])[:300])
        return event

    def _json(self, response: httpx.Response) -> dict[str, Any]:
        try:
            answer = response.json()
        except ValueError as error:
            raise UnreadableAnswer(self.url, "it is not JSON") from error
        if not isinstance(answer, dict):
            raise UnreadableAnswer(self.url, f"it is a {type(answer).__name__}, not an object")
        return answer


class _reading:
    """While an answer is taken apart, turn a missing or misshapen field into UnreadableAnswer."""

    def __init__(self, url: str, answer: Mapping[str, Any]) -> None:
        self.url, self.answer = url, answer

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyError | IndexError | TypeError | ValueError):
            fields = ", ".join(self.answer) or "nothing"
            raise UnreadableAnswer(self.url, f"{type(error).__name__}: {error}; it has {fields}") from error


def _require_model(answer: Mapping[str, Any], *, asked: str) -> None:
    if answer["model"] != asked:
        raise WrongModel(asked=asked, answered=answer["model"])


def _completion(choice: Mapping[str, Any], *, prompt_token_ids: tuple[int, ...], model: str) -> Completion:
    token_ids = tuple(choice["token_ids"])
    logprobs = tuple(float(token["logprob"]) for token in choice["logprobs"]["content"])
    if len(token_ids) != len(logprobs):
        raise ValueError(f"{len(token_ids)} token ids have {len(logprobs)} log-probs")
    return Completion(
        text=choice["message"]["content"] or "",
        token_ids=token_ids,
        prompt_token_ids=prompt_token_ids,
        logprobs=logprobs,
        finish_reason=choice["finish_reason"],
        model=model,
    )


def _piece(choice: Mapping[str, Any], *, prompt_token_ids: tuple[int, ...]) -> Piece:
    token_ids = tuple(choice.get("token_ids") or ())
    logprobs = tuple(float(token["logprob"]) for token in (choice.get("logprobs") or {}).get("content") or ())
    if len(token_ids) != len(logprobs):
        raise ValueError(f"{len(token_ids)} token ids have {len(logprobs)} log-probs")
    return Piece(
        text=choice["delta"].get("content") or "",
        token_ids=token_ids,
        logprobs=logprobs,
        prompt_token_ids=prompt_token_ids,
        finish_reason=choice["finish_reason"] or "",
    )


def _error_message(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text.strip()[:300] or response.reason_phrase
