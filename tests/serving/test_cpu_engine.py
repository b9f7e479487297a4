"""How the engine's processes wait for each other: asleep, and not for a notice that was dropped."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.slow  # vLLM takes long to import


class Notices:
    """Stands where the condition looks for notices; none comes, and the length of each look is kept."""

    def __init__(self) -> None:
        self.waited: list[int] = []

    def poll(self, timeout: int) -> list[tuple[object, int]]:
        self.waited.append(timeout)
        return []


def test_who_waits_soon_looks_again_whether_a_notice_was_dropped() -> None:
    import zmq
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.utils.network_utils import get_open_zmq_ipc_path

    from training.serving.cpu_engine import (
        LOOK_AGAIN_IDLE_MS,
        LOOK_AGAIN_MS,
        SleepingCondition,
        wait_without_spinning,
    )

    condition = SleepingCondition(
        is_reader=True, context=zmq.Context(), notify_address=get_open_zmq_ipc_path()
    )
    condition.poller = notices = Notices()
    condition.record_read()
    condition.wait(timeout_ms=5000)
    condition.last_read = float("-inf")
    condition.wait(timeout_ms=None)
    condition.wait(timeout_ms=1)
    assert notices.waited == [LOOK_AGAIN_MS, LOOK_AGAIN_IDLE_MS, 1]
    wait_without_spinning()
    assert shm_broadcast.SpinCondition is SleepingCondition
