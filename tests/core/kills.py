"""The end of a process at a chosen call, without a process."""

from typing import Any

import pytest


class Killed(BaseException):
    """The process ends here."""


def kill_at_call(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, *, call: int, after: bool = False
) -> None:
    """End the process at the n-th call of a function, before it does its work or after."""
    real, calls = getattr(module, name), 0

    def dying(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = real(*arguments, **options)
        if calls == call:
            raise Killed
        return result

    monkeypatch.setattr(module, name, dying)
