"""What a person sees while a run goes on: sentences and a bar on a terminal, JSON lines under a job."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]

SECONDS_BETWEEN_LINES = 10
_silent = False


def be_silent() -> None:
    """Say nothing from now on: of several processes that train one run, one speaks."""
    global _silent
    _silent = True


def say(text: str, **figures: Any) -> None:
    """A sentence on stdout, at once; elsewhere than on a terminal, a JSON object with it as `message`."""
    if _silent:
        return
    line = text if sys.stdout.isatty() else json.dumps({"message": text, **figures}, ensure_ascii=False)
    print(line, flush=True)


class Progress:
    """Counts to `total`: a bar on a terminal, else a line per call with figures, or one every 10 s."""

    def __init__(self, label: str, *, total: int, done: int = 0) -> None:
        self.label, self.total, self.done = label, total, done
        self._start, self._first, self._last_line = time.monotonic(), done, time.monotonic()
        self._bar: Any = None
        if sys.stdout.isatty() and not _silent:
            self._bar = tqdm(desc=label, total=total, initial=done, file=sys.stdout, dynamic_ncols=True)

    def advance(self, figures: str = "", *, by: int = 1) -> None:
        """`by` more done; `figures` is shown beside the count."""
        self.done += by
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update(by)
        elif figures or self.done == self.total or self._silent_for_long():
            self._last_line = time.monotonic()
            self._say_line(figures)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()

    def _silent_for_long(self) -> bool:
        return time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES

    def _say_line(self, figures: str) -> None:
        left = self._seconds_left()
        parts = (f"{self.label} {self.done}/{self.total}", figures, _left(left))
        say(
            "  ".join(part for part in parts if part),
            doing=self.label,
            done=self.done,
            total=self.total,
            seconds_left=round(left, 1),
        )

    def _seconds_left(self) -> float:
        taken = time.monotonic() - self._start
        return taken / (self.done - self._first) * (self.total - self.done)


def _left(seconds: float) -> str:
    if not seconds:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"


@contextmanager
def progress(label: str, *, total: int, done: int = 0) -> Iterator[Progress]:
    """A Progress that is closed whatever happens inside."""
    shown = Progress(label, total=total, done=done)
    try:
        yield shown
    finally:
        shown.close()
