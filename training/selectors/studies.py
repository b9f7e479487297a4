"""The study home: where the loop stands, what to do next, who has labelled what."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.models import Count, Max, Q

from annotate.models import Membership, Pair, Preference, Prompt, Role, Split, Study, User
from training.models import Job, Policy, Recipe, Round
from training.selectors.engine import EngineOverview, engine_overview
from training.selectors.job_rows import JobRow, in_a_sentence, job_rows
from training.selectors.label_counts import LabelCounts
from training.selectors.loop_strip import LoopStep, NextAction, loop_steps, next_action
from training.selectors.readiness import Readiness, round_readiness
from training.selectors.rounds import RoundRow, round_rows

FINISHED_JOBS_SHOWN = 4
PANEL_ORDER: dict[str, int] = {
    Job.State.RUNNING: 0,
    Job.State.QUEUED: 1,
    Job.State.FAILED: 2,
    Job.State.CANCELLED: 3,
}
DEMO_MODEL = "SmolLM2-135M-Instruct"


@dataclass(frozen=True)
class PersonRow:
    """Someone who labels or has labelled: their labels in all and in the current round."""

    user: User
    role: str
    labels: int
    labels_this_round: int
    last_label_at: datetime | None


@dataclass(frozen=True)
class StudyOverview:
    """All that the study home shows."""

    recipe: Recipe
    train_prompts: int
    heldout_prompts: int
    rounds: list[RoundRow]
    labels: LabelCounts
    next_policy: Policy
    steps: list[LoopStep]
    action: NextAction
    jobs: list[JobRow]
    people: list[PersonRow]
    engine: EngineOverview

    @property
    def current(self) -> RoundRow | None:
        return self.rounds[0] if self.rounds else None

    @property
    def panel_jobs(self) -> list[JobRow]:
        """Return the jobs worth a line: those at work, then what needs someone, then the last that ended."""
        ended = [job for job in self.jobs if job.is_done][-FINISHED_JOBS_SHOWN:]
        shown = [job for job in reversed(self.jobs) if job.is_active or job.can_retry or job in ended]
        return sorted(shown, key=lambda job: PANEL_ORDER.get(job.state, len(PANEL_ORDER)))

    @property
    def poll_seconds(self) -> int | None:
        """Return how often the page asks again; None when nothing moves until someone acts."""
        return poll_seconds(jobs=self.jobs, engine=self.engine, current=self.current)


def suggested_base_model() -> str:
    """Return the newest study's base model, else the demo model's folder where there is one."""
    newest = Recipe.objects.order_by("-study__created_at").first()
    if newest is not None:
        return newest.base_model
    demo = Path(settings.STUDIO_MODELS) / DEMO_MODEL
    return str(demo) if demo.is_dir() else ""


def poll_seconds(*, jobs: list[JobRow], engine: EngineOverview, current: RoundRow | None) -> int | None:
    if any(job.is_active for job in jobs) or engine.state in ("starting", "warming"):
        return 2
    if current is None or current.round.state != Round.State.COLLECTING:
        return None
    return 10 if current.labels.labels_open else None


def study_overview(study: Study) -> StudyOverview:
    """Return what the study home shows, in a fixed number of queries."""
    jobs = job_rows(study)
    rounds = round_rows(study, jobs=jobs)
    current = rounds[0] if rounds else None
    prompts = prompt_counts(study)
    next_policy = policy_to_sample(study, current=current)
    action = next_action(
        current,
        readiness=readiness_of(current),
        train_prompts=prompts.get(Split.TRAIN, 0),
        next_policy=in_a_sentence(next_policy),
    )
    return StudyOverview(
        recipe=study.recipe,
        train_prompts=prompts.get(Split.TRAIN, 0),
        heldout_prompts=prompts.get(Split.HELDOUT, 0),
        rounds=rounds,
        labels=sum((row.labels for row in rounds), LabelCounts()),
        next_policy=next_policy,
        steps=loop_steps(current),
        action=action,
        jobs=jobs,
        people=people(study, batch=current.round.number if current else 0),
        engine=engine_overview(),
    )


def readiness_of(current: RoundRow | None) -> Readiness | None:
    """Return whether the round can train; None when it is not collecting."""
    if current is None or current.round.state != Round.State.COLLECTING:
        return None
    return round_readiness(current.round)


def prompt_counts(study: Study) -> dict[str, int]:
    counts = Prompt.objects.filter(study=study).order_by().values("split").annotate(prompts=Count("pk"))
    return {row["split"]: row["prompts"] for row in counts}


def policy_to_sample(study: Study, *, current: RoundRow | None) -> Policy:
    """Return the policy that labels are about now: the open round's, else what the next round samples."""
    if current is not None and current.round.state in (Round.State.COLLECTING, Round.State.TRAINING):
        return current.round.sampled_policy
    if current is not None and current.round.chosen_policy is not None:
        return current.round.chosen_policy
    return study.policies.order_by("-number")[:1].get()


def people(study: Study, *, batch: int) -> list[PersonRow]:
    """Return everyone who labels or has labelled, most labels first: two queries."""
    counts = (
        Preference.objects.filter(
            pair__study=study, pair__purpose__in=[Pair.Purpose.TRAIN, Pair.Purpose.EVALUATE]
        )
        .values("annotator")
        .annotate(
            labels=Count("pk"),
            this_round=Count("pk", filter=Q(pair__batch=batch)),
            last=Max("updated_at"),
        )
    )
    by_user: dict[int, dict[str, Any]] = {row["annotator"]: {**row} for row in counts}
    members = Membership.objects.filter(study=study).select_related("user")
    roles = {member.user_id: member for member in members}
    rows = [
        person(member.user, role=member.get_role_display(), counts=by_user.get(member.user_id, {}))
        for member in roles.values()
        if member.role != Role.VIEWER or member.user_id in by_user
    ]
    gone = User.objects.filter(pk__in=set(by_user) - set(roles))
    rows += [person(user, role="No longer a member", counts=by_user[user.pk]) for user in gone]
    return sorted(rows, key=lambda row: (-row.labels, row.user.username))


def person(user: User, *, role: str, counts: dict[str, Any]) -> PersonRow:
    return PersonRow(
        user=user,
        role=role,
        labels=counts.get("labels", 0),
        labels_this_round=counts.get("this_round", 0),
        last_label_at=counts.get("last"),
    )
