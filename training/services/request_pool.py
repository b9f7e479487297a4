"""Requests in flight, on a thread with an event loop of its own: the database stays on the calling thread."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

Key = TypeVar("Key")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

CLOSING_SECONDS = 10
TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Outcome(Generic[Key, Answer]):
    """How one request ended: exactly one of `answer` and `error` is set."""

    key: Key
    answer: Answer | None
    error: Exception | None


class RequestPool(Generic[Key, Answer]):
    """Starts requests and hands their outcomes back in the order in which they end.

    Leaving the context cancels what is still in flight and waits until its connections are closed, by which
    the engine learns to stop generating.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="requests", daemon=True)
        self._outcomes: queue.Queue[Outcome[Key, Answer]] = queue.Queue()
        self._closers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self.in_flight = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopping = asyncio.run_coroutine_threadsafe(self._shut_down(), self._loop)
        try:
            stopping.result(timeout=CLOSING_SECONDS)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(timeout=CLOSING_SECONDS)

    def at_exit(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Have `close` awaited on the event loop when the context is left."""
        self._closers.append(close)

    def submit(self, key: Key, request: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        """Start a request; `request` is called on the pool's event loop."""
        self.in_flight += 1
        asyncio.run_coroutine_threadsafe(self._perform(key, request), self._loop)

    def next_outcome(self, *, timeout: float) -> Outcome[Key, Answer] | None:
        """Return the next request's outcome, or None when `timeout` seconds pass without one."""
        try:
            outcome = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None
        self.in_flight -= 1
        return outcome

    def call(
        self, work: Callable[[], Coroutine[Any, Any, Result]], *, meanwhile: Callable[[], None]
    ) -> Result:
        """Run one coroutine on the pool's event loop; `meanwhile` is called twice a second and may raise."""
        future = asyncio.run_coroutine_threadsafe(work(), self._loop)
        try:
            while True:
                try:
                    return future.result(timeout=TICK_SECONDS)
                except TimeoutError:
                    if future.done():
                        raise
                    meanwhile()
        finally:
            future.cancel()

    async def _perform(self, key: Key, request: Callable[[], Coroutine[Any, Any, Answer]]) -> None:
        try:
            outcome: Outcome[Key, Answer] = Outcome(key, await request(), None)
        except Exception as error:  # noqa: BLE001 - handed to the calling thread, which decides
            outcome = Outcome(key, None, error)
        self._outcomes.put(outcome)

    async def _shut_down(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for close in self._closers:
            await close()
