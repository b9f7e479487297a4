"""What a person sees while a run goes on: a bar on a terminal, short lines under a job."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped,unused-ignore]


def say(text: str) -> None:
    """A line on stdout, at once."""
    print(text, flush=True)


class Progress:
    """Counts to `total`: a bar on a terminal, else a line per call that has something to say, or one every
    10 s.
    """

    def __init__(self, label: str, *, total: int, done: int = 0) -> None:
        self.label, self.total, self.done = label, total, done
        self._start, self._first, self._last_line = time.monotonic(), done, time.monotonic()
        self._bar: Any = None
        if sys.stdout.isatty():
            self._bar = tqdm(desc=label, total=total, initial=done, file=sys.stdout, dynamic_ncols=True)

    def advance(self, figures: str = "") -> None:
        """One more done; `figures` is shown beside the count."""
        self.done += 1
        if self._bar is not None:
            self._bar.set_postfix_str(figures, refresh=False)
            self._bar.update()
        elif figures or self.done == self.total or time.monotonic() - self._last_line > 10:
            self._last_line = time.monotonic()
            say(
                "  ".join(
                    part for part in (f"{self.label} {self.done}/{self.total}", figures, self._left()) if part
                )
            )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()

    def _left(self) -> str:
        if self.done == self.total:
            return ""
        seconds = (time.monotonic() - self._start) / (self.done - self._first) * (self.total - self.done)
        return f"about {seconds:.0f} s left" if seconds < 120 else f"about {seconds / 60:.0f} min left"


@contextmanager
def progress(label: str, *, total: int, done: int = 0) -> Iterator[Progress]:
    """A Progress that is closed whatever happens inside."""
    shown = Progress(label, total=total, done=done)
    try:
        yield shown
    finally:
        shown.close()
