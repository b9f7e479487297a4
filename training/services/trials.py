"""Trials: a lead's text put to two to four policies at once, outside of any round."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from annotate.models import Study, User
from annotate.prompt_lines import PromptLineError, canonical_messages, prompt_messages
from training.models import Policy, Trial, TrialAnswer
from training.serving.client import Message, SamplingSettings

FEWEST_POLICIES, MOST_POLICIES = 2, 4
LONGEST_TEXT = 20_000
TRIALS_A_MINUTE = 10
TRIALS_AT_ONCE = 4
# The process that writes a trial down is heard from every second; after so long without it is gone.
SILENCE = timedelta(seconds=20)
ACTIVE = (TrialAnswer.State.WAITING, TrialAnswer.State.WRITING)


class TrialRefused(Exception):
    """The text cannot be tried or sent on; the message says why and what to do."""


@dataclass(frozen=True)
class NewTrial:
    """What is asked: a chat ending with the user, of which policies, with which settings."""

    messages: list[dict[str, str]]
    policies: tuple[int, ...]
    settings: SamplingSettings


def chat_of(text: str, *, is_chat: bool) -> list[dict[str, str]]:
    """Return the messages of a text, or of a chat as JSON. Raises TrialRefused with what is wrong."""
    if len(text) > LONGEST_TEXT:
        raise TrialRefused(f"The text has {len(text):,} characters; {LONGEST_TEXT:,} are possible.")
    if "\x00" in text:
        raise TrialRefused("The text has a NUL character; remove it.")
    if not is_chat:
        if not text.strip():
            raise TrialRefused("There is nothing to answer; write a prompt.")
        return [{"role": "user", "content": text.strip()}]
    try:
        data = json.loads(text)
        return prompt_messages(data if isinstance(data, dict) else {"messages": data})
    except json.JSONDecodeError as error:
        raise TrialRefused(f"The chat is not JSON: {error.msg} at line {error.lineno}.") from error
    except (PromptLineError, RecursionError) as error:
        raise TrialRefused(str(error)) from error


def create_trial(*, study: Study, actor: User, new: NewTrial) -> Trial:
    """Write a trial down, its answers waiting. Raises TrialRefused."""
    policies = list(Policy.objects.filter(study=study, number__in=new.policies))
    if not FEWEST_POLICIES <= len(policies) <= MOST_POLICIES:
        raise TrialRefused(
            f"{len(policies)} polic{'y is' if len(policies) == 1 else 'ies are'} chosen; choose "
            f"{FEWEST_POLICIES} to {MOST_POLICIES} to see side by side."
        )
    check_rate(actor)
    now = timezone.now()
    with transaction.atomic():
        trial = Trial.objects.create(
            study=study,
            messages=new.messages,
            content_hash=chat_hash(new.messages),
            sampling=new.settings.as_request(),
            heartbeat_at=now,
            created_by=actor,
        )
        TrialAnswer.objects.bulk_create(TrialAnswer(trial=trial, policy=policy) for policy in policies)
    return trial


def check_rate(actor: User) -> None:
    """Raise TrialRefused when this person, or everybody together, asks for too much at once."""
    now = timezone.now()
    recent = Trial.objects.filter(created_by=actor, created_at__gt=now - timedelta(minutes=1)).count()
    if recent >= TRIALS_A_MINUTE:
        raise TrialRefused(f"{recent} texts in a minute are the most that can be tried; wait a moment.")
    running = Trial.objects.filter(answers__state__in=ACTIVE, heartbeat_at__gt=now - SILENCE).distinct()
    if running.filter(created_by=actor).exists():
        raise TrialRefused("Your last text is still being answered; wait for it or stop it.")
    if running.count() >= TRIALS_AT_ONCE:
        raise TrialRefused(f"{TRIALS_AT_ONCE} people are trying texts just now; wait a moment.")


def chat_hash(messages: Sequence[Message]) -> str:
    """Return the hash by which `Prompt.content_hash` knows the same chat."""
    return hashlib.sha256(canonical_messages([dict(message) for message in messages]).encode()).hexdigest()


def stop_trial(trial: Trial, *, policy: int | None = None) -> int:
    """Stop the answers that are still coming, or that of one policy; returns how many."""
    answers = TrialAnswer.objects.filter(trial=trial, state__in=ACTIVE)
    if policy is not None:
        answers = answers.filter(policy__number=policy)
    return answers.update(state=TrialAnswer.State.STOPPED, note="")
