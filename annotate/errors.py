"""What the annotation side refuses, each as a sentence for the person who asked."""

from dataclasses import dataclass


class Refused(Exception):
    """A request that the rules do not allow; its text names the thing and the remedy."""


class StudyRefused(Refused):
    """A study cannot be made or changed like that."""


class MemberRefused(Refused):
    """A member cannot be added, changed or removed like that."""


class LabelRefused(Refused):
    """A label, skip or undo cannot be taken; nothing was written."""


class VerdictNotAllowed(LabelRefused):
    """The study does not offer this verdict."""


class AlreadyLabelled(LabelRefused):
    """The annotator has labelled the pair before; that label stands."""


class TakenBackAlready(LabelRefused):
    """What an undo names was undone before."""


class CheckRefused(Refused):
    """A gold or practice pair cannot be made like that."""


class InviteRefused(Refused):
    """An invite link cannot be used; the text says why."""


class ReviewRefused(Refused):
    """A lead's decision cannot be taken like that."""


@dataclass(frozen=True)
class LineError:
    """What is wrong with one line of an imported file; lines count from 1."""

    line: int
    message: str


class PromptFileError(Refused):
    """A prompt file with faults: `errors` has the first ones, `count` says how many lines are wrong."""

    def __init__(self, *, errors: list[LineError], count: int) -> None:
        lines = "line is" if count == 1 else "lines are"
        super().__init__(f"{count} {lines} wrong; nothing was imported.")
        self.errors = errors
        self.count = count
