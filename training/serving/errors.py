"""What can go wrong between us and a vLLM server, each with a cause that a person can read."""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything that a vLLM server or the way to it can do wrong.

    `is_transient` says whether the same request may succeed later, for example after a restart of the server.
    """

    is_transient = False


class EngineUnreachable(EngineError):
    """No answer came: the server is not up, went away in the middle of a request, or took too long."""

    is_transient = True

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The engine at {url} did not answer ({reason}).")
        self.url = url


class EngineRefused(EngineError):
    """The server answered with an error status; `message` is the server's own."""

    def __init__(self, url: str, *, status: int, message: str) -> None:
        super().__init__(f"The engine at {url} refused with {status}: {message}")
        self.url, self.status, self.message = url, status, message
        self.is_transient = status >= 500 or status == 429


class UnreadableAnswer(EngineError):
    """The server answered something else than vLLM's OpenAI interface promises."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"The answer of {url} cannot be read: {reason}. Is it a vLLM server of the pinned version?"
        )
        self.url = url


class WrongModel(EngineError):
    """Another model answered than was asked for."""

    def __init__(self, *, asked: str, answered: str) -> None:
        super().__init__(f"Asked for the model {asked}, but {answered} answered.")
        self.asked, self.answered = asked, answered


class AdapterUnusable(EngineError):
    """An adapter cannot be published: its folder, its name or what the server makes of it is wrong."""
