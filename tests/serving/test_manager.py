"""The manager with a real vLLM: it starts, comes back after a kill, moves, and leaves nothing behind."""

import os
import signal
import time
from pathlib import Path

import pytest

from dpo_studio.processes.descendants import descendants
from tests.support.studio import alive, wait_until
from training.serving.manager import EngineManager, EngineState, Status

READY_SECONDS = 300


class Witness:
    """What a manager asks for and tells."""

    def __init__(self, base: str | None) -> None:
        self.base = base
        self.told: list[EngineState] = []

    def report(self, state: EngineState) -> None:
        if not self.told or self.told[-1] != state:
            self.told.append(state)

    @property
    def last(self) -> EngineState:
        return self.told[-1]


def tick_until(manager: EngineManager, witness: Witness, *, state: Status, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not witness.told or witness.last.state != state:
        assert time.monotonic() < deadline, f"not {state} within {seconds:.0f} s: {witness.told}"
        manager.tick()
        time.sleep(0.2)


@pytest.mark.engine
@pytest.mark.slow
def test_server_starts_comes_back_after_a_kill_and_goes_with_all_its_processes(demo_model: Path) -> None:
    witness = Witness(str(demo_model))
    manager = EngineManager(desired_base=lambda: witness.base, report=witness.report)
    try:
        tick_until(manager, witness, state=Status.READY, seconds=READY_SECONDS)
        assert [state.state for state in witness.told[:3]] == [Status.STARTING, Status.WARMING, Status.READY]
        assert witness.last.served_name.startswith("SmolLM2-135M-Instruct-")
        first = witness.last.pid
        assert first is not None
        processes = [first, *descendants(of=first)]
        assert len(processes) >= 3

        os.kill(first, signal.SIGKILL)
        tick_until(manager, witness, state=Status.FAILED, seconds=30)
        assert "vLLM ended with SIGKILL" in witness.last.detail
        wait_until(lambda: alive(processes) == [], seconds=10, what="end of engine and workers")

        tick_until(manager, witness, state=Status.READY, seconds=READY_SECONDS)
        second = witness.last.pid
        assert second is not None
        processes = [second, *descendants(of=second)]
        witness.base = None
        tick_until(manager, witness, state=Status.STOPPED, seconds=30)
        assert witness.last.detail == "Not needed now."
        assert alive(processes) == []
    finally:
        manager.run(stopping=lambda: True)


@pytest.mark.slow
def test_base_that_does_not_exist_fails_with_vllms_own_cause_and_is_tried_again(tmp_path: Path) -> None:
    witness = Witness(str(tmp_path / "missing"))
    manager = EngineManager(desired_base=lambda: witness.base, report=witness.report)
    try:
        tick_until(manager, witness, state=Status.FAILED, seconds=120)
        assert "missing" in witness.last.detail
        assert "(trying again in 2 s)" in witness.last.detail
        assert witness.last.base_model == witness.base
        tick_until(manager, witness, state=Status.STARTING, seconds=30)
    finally:
        manager.run(stopping=lambda: True)
    assert witness.last.state == Status.STOPPED
