"""vLLM's output: passed on to our own, with its last errors kept for people who only see the page."""

from __future__ import annotations

import re
import sys
import threading
from collections import deque
from typing import IO

KEPT_LINES = 400
PREFIX = re.compile(r"^(\([^)]*pid=\d+\) )?((ERROR|WARNING|INFO|CRITICAL) \S+ \S+ \[[^\]]*\] ?)?")
ERROR_LINE = re.compile(r"^[\w.]*(Error|Exception|Interrupt)\b.*: .+|^.*error: argument .+")
# These only say that another error came first.
CONSEQUENCES = (
    "Engine core initialization failed",
    "EngineDeadError",
    "Worker failed with",
    "WorkerProc initialization",
)


class Output:
    """Reads a process's output on a thread until it ends."""

    def __init__(self, stream: IO[bytes] | None) -> None:
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._thread = threading.Thread(target=self._copy, name="vllm-output", daemon=True)
        self._thread.start()

    def last_error(self) -> str:
        """Return the message of the error that most likely ended the process, or its last line."""
        self._thread.join(timeout=2)
        lines = [PREFIX.sub("", line).strip() for line in self._lines]
        errors = [
            line
            for line in lines
            if ERROR_LINE.match(line) and not any(text in line for text in CONSEQUENCES)
        ]
        written = [line for line in lines if line]
        return (errors or written or [""])[-1][:500]

    def close(self) -> None:
        """Wait for what is still to be read."""
        self._thread.join(timeout=2)

    def _copy(self) -> None:
        if self._stream is None:
            return
        for raw in self._stream:
            line = raw.decode(errors="replace")
            self._lines.append(line)
            sys.stdout.write(line)
        sys.stdout.flush()
