"""Asking the studio to stop: never lost, wherever the program was when the signal came."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator

import pytest

from dpo_studio.processes.launcher import Stop, StopRequested

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop = Stop()
    stop.on_signals()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


class SignalledInItsDestructor(io.RawIOBase):
    """A file that is closed by its destructor, where Python lets no exception out."""

    def close(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        super().close()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_asks_to_stop_where_the_program_is(stop: Stop, number: signal.Signals) -> None:
    stop.check()
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), number)


def test_a_signal_that_comes_in_a_destructor_is_heard_at_the_next_look(stop: Stop) -> None:
    opened = [SignalledInItsDestructor()]
    opened.clear()
    with pytest.raises(StopRequested):
        stop.check()
