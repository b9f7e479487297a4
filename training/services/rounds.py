"""Opening a round and training on it. Two people who press at once make one round and one run."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from annotate.models import Prompt, Split, Study, User
from annotate.services.audit import record_audit
from annotate.services.pairs import freeze_batch
from training.models import GateOverride, Job, Policy, Recipe, Round, Run
from training.selectors.evaluation import gate_failures
from training.selectors.readiness import round_readiness, state_refusal
from training.selectors.training_set import assemble, rules_of
from training.services.jobs import create_job, hold_round, request_cancel
from training.services.notices import refresh_queue_notice
from training.services.run_directories import FrozenRun, freeze_run_directory, remove_run_directory
from training.services.training_set import RulesRefused, build_training_set
from training.training_set.rules import Rules

UNDER_WAY = (Job.State.QUEUED, Job.State.RUNNING)
AT_WORK = (Round.State.COLLECTING, Round.State.TRAINING)


class RoundRefused(Exception):
    """The round cannot be opened or trained now; the message says why and what to do."""


class GateFailed(RoundRefused):
    """The policy fails its gate and nobody has written down why to go on from it all the same."""

    def __init__(self, policy: Policy, failures: tuple[str, ...]) -> None:
        super().__init__(
            f"{policy.label} fails its gate. {' '.join(failures)} To go on from it all the same, write down "
            "why on its page; or open the round on another policy."
        )
        self.policy = policy


class ChoiceNeeded(RoundRefused):
    """The last round gave several policies and none of them has been chosen."""

    def __init__(self, last: Round) -> None:
        super().__init__(
            f"Round {last.number} gave several policies; choose on its page which one round "
            f"{last.number + 1} samples."
        )
        self.round = last


def open_round(
    *, study: Study, actor: User | None = None, policy: Policy | None = None, override: str = ""
) -> Round:
    """Close the trained round, open the next one on a policy and start sampling.

    Without `policy` it is the one that was chosen for it, else the newest; where the last round gave several,
    one has to be chosen. `override` is why to go on from a policy that fails its gate; it is kept. Raises
    RoundRefused.
    """
    _check_can_open(study)
    chosen = policy or policy_for_next_round(study)
    if chosen.study_id != study.pk:
        raise RoundRefused(f"{chosen.served_name} is a policy of another study; name one of {study.name}.")
    failures = gate_failures(chosen)
    reason = override.strip()
    if failures and not reason:
        raise GateFailed(chosen, failures)
    try:
        with transaction.atomic():
            opened = _open(study, policy=chosen, actor=actor)
            if failures:
                _keep_override(opened, reason=reason, failures=failures, actor=actor)
            return opened
    except IntegrityError as error:
        raise RoundRefused(_already_open(study)) from error


def policy_for_next_round(study: Study) -> Policy:
    """Return what the next round samples unless a policy is named. Raises ChoiceNeeded."""
    last = Round.objects.filter(study=study).select_related("chosen_policy").order_by("-number").first()
    if last is not None and last.chosen_policy is not None:
        return last.chosen_policy
    if last is not None and last.runs.filter(policy__isnull=False).count() > 1:
        raise ChoiceNeeded(last)
    return Policy.objects.filter(study=study).order_by("-number")[:1].get()


def active_runs(study: Study) -> QuerySet[Job]:
    """Return the study's runs that are queued or running."""
    return Job.objects.filter(study=study, kind=Job.Kind.RUN, state__in=UNDER_WAY)


def _keep_override(opened: Round, *, reason: str, failures: tuple[str, ...], actor: User | None) -> None:
    policy = opened.sampled_policy
    GateOverride.objects.create(
        policy=policy,
        reason=reason,
        failures=list(failures),
        round_number=opened.number,
        actor=actor,
    )
    record_audit(
        study=opened.study,
        actor=actor,
        action="gate.overridden",
        details={"policy": policy.number, "round": opened.number, "reason": reason, "failures": failures},
    )


def _check_can_open(study: Study) -> None:
    if study.state != Study.State.ACTIVE:
        raise RoundRefused(
            f"{study.name} is {study.get_state_display().lower()}; make it active to open a round."
        )
    if not Recipe.objects.filter(study=study).exists():
        raise RoundRefused(
            f"{study.name} has no base model and so nothing to sample from; create it as a new study."
        )
    if not Prompt.objects.filter(study=study, split=Split.TRAIN).exists():
        raise RoundRefused(f"{study.name} has no training prompts; import a prompt file first.")
    if Round.objects.filter(study=study, state__in=AT_WORK).exists():
        raise RoundRefused(_already_open(study))
    if Job.objects.filter(study=study, kind=Job.Kind.SFT, state__in=UNDER_WAY).exists():
        raise RoundRefused(
            "The study still learns from demonstrations, which gives its reference; wait for that or cancel "
            "it."
        )
    running = active_runs(study).select_related("run__round").first()
    if running is not None and running.run is not None:
        raise RoundRefused(
            f"Run {running.run.number} of round {running.run.round.number} is under way; wait for it or "
            "cancel it before the next round opens."
        )


def _already_open(study: Study) -> str:
    at_work = Round.objects.filter(study=study, state__in=AT_WORK).first()
    if at_work is None:
        return "Somebody else has just opened this round; reload the page."
    if at_work.state == Round.State.TRAINING:
        return f"Round {at_work.number} is training; the next round opens when its policy is there."
    return f"Round {at_work.number} is already open; train it before the next one."


def _open(study: Study, *, policy: Policy, actor: User | None) -> Round:
    last = Round.objects.filter(study=study).order_by("-number").first()
    if last is not None:
        ended = (Round.State.TRAINED, Round.State.CLOSED)
        Round.objects.filter(pk=last.pk, state__in=ended).update(
            state=Round.State.CLOSED, chosen_policy=policy
        )
        # Once more, now that the round's row is held: a run that starts from here on finds it closed.
        if active_runs(study).exists():
            raise RoundRefused("A run has just been started; wait for it or cancel it first.")
    recipe = study.recipe
    opened = Round.objects.create(
        study=study,
        number=last.number + 1 if last else 1,
        sampled_policy=policy,
        opened_by=actor,
        samples_per_prompt=recipe.samples_per_prompt,
        pair_choice=recipe.pair_choice,
        random_share=recipe.random_share,
    )
    total = recipe.samples_per_prompt * Prompt.objects.filter(study=study, split=Split.TRAIN).count()
    create_job(study=study, kind=Job.Kind.SAMPLING, round=opened, unit="responses", total=total, actor=actor)
    create_heldout_job(policy=policy, actor=actor)
    record_audit(
        study=study,
        actor=actor,
        action="round.opened",
        details={"round": opened.number, "policy": policy.number},
    )
    refresh_queue_notice(study)
    return opened


def create_heldout_job(*, policy: Policy, actor: User | None = None) -> Job | None:
    """Queue held-out sampling of a policy unless it has its job already, or there is nothing to sample."""
    prompts = Prompt.objects.filter(study_id=policy.study_id, split=Split.HELDOUT).count()
    if not prompts or Job.objects.filter(policy=policy, kind=Job.Kind.HELDOUT).exists():
        return None
    total = prompts * policy.study.recipe.heldout_samples
    return create_job(
        study=policy.study, kind=Job.Kind.HELDOUT, policy=policy, unit="responses", total=total, actor=actor
    )


def start_training(*, round: Round, actor: User | None = None, rules: Rules | None = None) -> Run:
    """Freeze the round's labels into a run directory and queue the run. Raises RoundRefused.

    The training set follows the study's rules unless others are given.

    A round whose runs have all failed or been cancelled gets another run, with the recipe as it is now.
    """
    refusal = state_refusal(round)
    readiness = round_readiness(round)
    # What other rules find usable is known when they have been followed, below.
    if refusal or (rules is None and not readiness.ready):
        raise RoundRefused(refusal or readiness.sentence)
    _measure_similarity(round, rules=rules or rules_of(round.study.recipe))
    try:
        with transaction.atomic():
            return _start(round, actor=actor, rules=rules)
    except IntegrityError as error:
        raise RoundRefused(f"Round {round.number} is already training.") from error
    except RulesRefused as error:
        raise RoundRefused(str(error)) from error


def _measure_similarity(round: Round, *, rules: Rules) -> None:
    """Measure what the rules ask for and nobody has measured yet, before anybody has to wait for the lock."""
    if rules.most_alike is not None:
        assemble(round=round, rules=rules, loss=round.study.recipe.loss)


def _start(round: Round, *, actor: User | None, rules: Rules | None) -> Run:
    fresh = _take_for_training(round)
    for sampling in Job.objects.filter(round=fresh, kind=Job.Kind.SAMPLING):
        if sampling.is_active:
            request_cancel(job=sampling, actor=actor)
    freeze_batch(study=fresh.study, batch=fresh.number)
    training_set = build_training_set(round=fresh, rules=rules)
    needed = fresh.study.recipe.minimum_labels
    usable = training_set.receipt.usable_per_round.get(fresh.number, 0)
    if usable < needed:
        raise RoundRefused(f"{usable} of {needed} usable preferences; label more pairs.")
    number = fresh.runs.count() + 1
    frozen = freeze_run_directory(round=fresh, number=number, training_set=training_set)
    try:
        return queue_run(fresh, frozen=frozen, receipt=training_set.receipt.as_json(), actor=actor)
    except IntegrityError:
        remove_run_directory(frozen)
        raise


def queue_run(
    round: Round,
    *,
    frozen: FrozenRun,
    receipt: dict[str, Any],
    actor: User | None,
    same_labels_as: int | None = None,
) -> Run:
    """Create the run of a directory that has been written, and its job, in the caller's transaction.

    `same_labels_as` is the number of the run whose examples it shares.
    """
    run = Run.objects.create(
        round=round,
        number=round.runs.count() + 1,
        config=frozen.config,
        receipt=receipt,
        dataset_sha256=frozen.dataset_sha256,
        directory=frozen.directory,
        started_by=actor,
    )
    create_job(
        study=round.study,
        kind=Job.Kind.RUN,
        round=round,
        run=run,
        unit="steps",
        total=frozen.steps,
        actor=actor,
    )
    details = {"round": round.number, "run": run.number}
    if same_labels_as is not None:
        details["same_labels_as"] = same_labels_as
    record_audit(study=round.study, actor=actor, action="training.started", details=details)
    refresh_queue_notice(round.study)
    return run


def _take_for_training(round: Round) -> Round:
    """Move the round from collecting to training; one in training needs to be without an active run."""
    hold_round(round.pk)
    taken = Round.objects.filter(pk=round.pk, state=Round.State.COLLECTING).update(state=Round.State.TRAINING)
    fresh = Round.objects.select_related("study__recipe", "sampled_policy").get(pk=round.pk)
    if not taken and (refusal := state_refusal(fresh)):
        raise RoundRefused(refusal)
    return fresh
