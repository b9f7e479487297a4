"""What the pages of a trial show."""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone

from annotate.models import Pair, Study
from training.models import Trial, TrialAnswer
from training.services.trials import SILENCE

RECENT = 8
INTERRUPTED = "The web server was restarted while this was being written; ask again."


@dataclass(frozen=True)
class ShownAnswer:
    """An answer of a trial; one whose writer has gone silent counts as failed."""

    answer: TrialAnswer
    state: str
    note: str

    @property
    def is_active(self) -> bool:
        return self.state in (TrialAnswer.State.WAITING, TrialAnswer.State.WRITING)

    @property
    def is_whole(self) -> bool:
        return self.state == TrialAnswer.State.DONE and bool(self.answer.token_ids)

    @property
    def tokens(self) -> int:
        return len(self.answer.token_ids)

    @property
    def tokens_per_second(self) -> float | None:
        """Over the tokens after the first; None until there are some."""
        seconds = self.answer.seconds
        return (self.tokens - 1) / seconds if seconds and self.tokens > 1 else None


@dataclass(frozen=True)
class ShownTrial:
    """A trial with its answers, and the pairs of the labelling queue that came from it."""

    trial: Trial
    answers: list[ShownAnswer]
    pairs: list[Pair]

    @property
    def is_active(self) -> bool:
        return any(answer.is_active for answer in self.answers)

    @property
    def whole(self) -> list[ShownAnswer]:
        return [answer for answer in self.answers if answer.is_whole]


def shown_trial(trial: Trial) -> ShownTrial:
    """Return the trial for its page: two queries."""
    answers = list(trial.answers.select_related("policy"))
    is_silent = timezone.now() - trial.heartbeat_at > SILENCE
    stored = [answer.response_id for answer in answers if answer.response_id]
    pairs = Pair.objects.filter(Q(response_a__in=stored) & Q(response_b__in=stored)).order_by("pk")
    return ShownTrial(trial, [shown_answer(answer, is_silent=is_silent) for answer in answers], list(pairs))


def shown_answer(answer: TrialAnswer, *, is_silent: bool) -> ShownAnswer:
    if answer.is_active and is_silent:
        return ShownAnswer(answer, TrialAnswer.State.FAILED, INTERRUPTED)
    return ShownAnswer(answer, answer.state, answer.note)


def recent_trials(study: Study) -> QuerySet[Trial]:
    """Return the study's newest trials: one query, and one for their policies."""
    trials = Trial.objects.filter(study=study).select_related("created_by")
    return trials.prefetch_related("answers__policy").order_by("-pk")[:RECENT]
