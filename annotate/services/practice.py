"""Practice: a few pairs with explained answers before the first real one, kept out of all data."""

import re
from dataclasses import dataclass

from django.utils.safestring import SafeString

from annotate.gate import write_transaction
from annotate.markdown import render_markdown
from annotate.models import Lease, Membership, Pair, Preference, Side, Study, User, Verdict
from annotate.services.checks import templates
from annotate.services.locks import lock_annotator
from annotate.services.queue import release_lease

# {a} and {b} as words of their own; after a letter, a brace or a sign they are mathematics: \frac{a}{b}.
PLACEHOLDER = re.compile(r"(?<![^\s(*“„\"'‘])\{([ab])\}(?!\{)")
SHOWN_NAMES = {Verdict.TIE: "Tie", Verdict.BOTH_BAD: "Both are bad"}


@dataclass(frozen=True)
class Feedback:
    """What somebody is told after a practice pair, in the letters that they saw on the screen."""

    agrees: bool
    theirs: str
    expected: str
    explanation: SafeString
    done: int
    total: int

    @property
    def is_last(self) -> bool:
        return self.done >= self.total


def practice_feedback(preference: Preference) -> Feedback | None:
    """Return what to say of a label on a practice pair; None for every other label."""
    pair = preference.pair
    if pair.purpose != Pair.Purpose.PRACTICE or pair.original is None:
        return None
    known = pair.original.known_answer
    left = Side(preference.shown_left)
    copies = Pair.objects.filter(
        study=pair.study_id, purpose=Pair.Purpose.PRACTICE, reserved_for=preference.annotator_id
    )
    done = copies.filter(preferences__isnull=False).exclude(state=Pair.State.WITHDRAWN).count()
    return Feedback(
        agrees=preference.verdict == known.verdict,
        theirs=_shown(Verdict(preference.verdict), left=left),
        expected=_shown(Verdict(known.verdict), left=left),
        explanation=render_markdown(with_letters(known.explanation, left=left), is_document=True),
        done=done,
        total=max(done, practice_total(pair.study)),
    )


def practice_total(study: Study) -> int:
    """Return how many practice pairs somebody new gets."""
    if not study.practice_pairs:
        return 0
    return min(study.practice_pairs, templates(study=study, purpose=Pair.Purpose.PRACTICE).count())


def with_letters(explanation: str, *, left: Side) -> str:
    """Return the explanation with {a} and {b} as the letters under which the two responses were shown."""
    return PLACEHOLDER.sub(lambda found: "A" if found[1] == left.value else "B", explanation)


def restart_practice(*, study: Study, annotator: User) -> int:
    """Let somebody practise once more, now: what they hold goes back, what they said last time is put aside.

    Returns how many practice pairs wait.
    """
    with write_transaction():
        lock_annotator(annotator)
        held = Lease.objects.select_related("pair").filter(annotator=annotator, pair__study=study)
        for lease in held.order_by("pair_id"):
            release_lease(pair=lease.pair, annotator=annotator)
        copies = Pair.objects.filter(
            study=study, purpose=Pair.Purpose.PRACTICE, reserved_for=annotator, state=Pair.State.OPEN
        )
        copies.update(state=Pair.State.WITHDRAWN)
        Membership.objects.filter(study=study, user=annotator).update(practice_done_at=None)
    return practice_total(study)


def _shown(verdict: Verdict, *, left: Side) -> str:
    if verdict in SHOWN_NAMES:
        return SHOWN_NAMES[verdict]
    return "A is better" if verdict.value == left.value else "B is better"
