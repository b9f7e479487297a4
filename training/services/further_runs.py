"""More runs on the labels that a round has frozen: another β or loss, or from the SFT reference."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F

from annotate.models import User
from training.core.run.config import (
    SOFT_LABEL_LOSSES,
    TIE_LOSSES,
    TIELESS_NU,
    USUAL_NU,
    LossSettings,
    RunConfig,
    parse_config,
)
from training.core.run.files import read_json_lines
from training.models import Job, Round, Run
from training.services.rounds import RoundRefused, queue_run
from training.services.run_directories import (
    FrozenRun,
    absolute,
    adapter_of,
    copy_run_directory,
    remove_run_directory,
)

MOST_RUNS_AT_ONCE = 8
FROZEN = (Round.State.TRAINING, Round.State.TRAINED)
ENDED_WITHOUT_POLICY = (Job.State.FAILED, Job.State.CANCELLED)
# Where a run keeps things and what it is checked against: no part of what makes two runs the same.
NOT_COMPARED = ("base_sha256", "ledger", "checkpoint_every")


@dataclass(frozen=True)
class RunPlan:
    """What a further run does differently; the examples and all other settings are its source's.

    `from_reference` starts a fresh adapter on the SFT reference; else the round's sampled policy goes on.
    """

    loss: LossSettings
    learning_rate: float
    epochs: int
    pairs_per_step: int
    seed: int
    from_reference: bool


def start_further_runs(*, source: Run, plans: Sequence[RunPlan], actor: User | None = None) -> list[Run]:
    """Queue a run per plan on exactly the examples of `source`, all of them or none. Raises RoundRefused."""
    _check_number(plans)
    _check_examples(source, plans=plans)
    frozen: list[FrozenRun] = []
    try:
        # Copied before the transaction: people who label would wait for the disk.
        for number, plan in enumerate(plans, source.round.runs.count() + 1):
            frozen.append(copy_run_directory(source, number=number, config=further_config(source, plan=plan)))
            _check_copy(frozen[-1], source=source)
        with transaction.atomic():
            item = _hold_frozen_round(source)
            return [_start(item, source=source, frozen=one, actor=actor) for one in frozen]
    except (RoundRefused, IntegrityError, OSError) as error:
        for directory in frozen:
            remove_run_directory(directory)
        if not isinstance(error, IntegrityError):
            raise
        raise RoundRefused("Somebody else has just started a run here; reload the page.") from error


def further_config(source: Run, *, plan: RunPlan) -> RunConfig:
    """Return the config of a run that differs from `source` as the plan says."""
    config = parse_config(source.config)
    start = None if plan.from_reference else adapter_of(source.round.sampled_policy)
    return replace(
        config,
        base_sha256=source.round.study.recipe.base_sha256 or config.base_sha256,
        parent_adapter=start,
        loss=plan.loss,
        optimizer=replace(
            config.optimizer,
            learning_rate=plan.learning_rate,
            epochs=plan.epochs,
            pairs_per_step=plan.pairs_per_step,
        ),
        seed=plan.seed,
    )


def plan_of_run(run: Run) -> RunPlan:
    """Return the plan that repeats a run."""
    config = parse_config(run.config)
    return RunPlan(
        loss=config.loss,
        learning_rate=config.optimizer.learning_rate,
        epochs=config.optimizer.epochs,
        pairs_per_step=config.optimizer.pairs_per_step,
        seed=config.seed,
        from_reference=config.parent_adapter is None,
    )


def _check_number(plans: Sequence[RunPlan]) -> None:
    if not 1 <= len(plans) <= MOST_RUNS_AT_ONCE:
        raise RoundRefused(
            f"{len(plans)} runs at once must lie between 1 and {MOST_RUNS_AT_ONCE}; give fewer values, 2 to "
            "4 are usual."
        )


def round_fault(item: Round) -> str:
    """Return why a round takes no further runs, or nothing."""
    if item.state in FROZEN:
        return ""
    if item.state == Round.State.COLLECTING:
        return f"Round {item.number} still collects labels; train on it first."
    return (
        f"Round {item.number} is closed; its labels are part of the next round's training set, so run there."
    )


def _hold_frozen_round(source: Run) -> Round:
    """Lock the round's row for the rest of the transaction and return it with its study's recipe."""
    held = Round.objects.filter(pk=source.round_id, state__in=FROZEN).update(state=F("state"))
    item = Round.objects.select_related("study__recipe", "sampled_policy").get(pk=source.round_id)
    if not held:
        raise RoundRefused(round_fault(item))
    return item


def _check_examples(source: Run, *, plans: Sequence[RunPlan]) -> None:
    """Raise RoundRefused for a loss that cannot learn from the source's examples."""
    ties, soft = _kinds_of_examples(source)
    if fault := examples_fault(source, plans=plans, ties=ties, soft=soft):
        raise RoundRefused(fault)


def examples_fault(source: Run, *, plans: Sequence[RunPlan], ties: int, soft: int) -> str:
    """Return which loss cannot learn from the source's examples, so many of them ties or soft; or nothing."""
    for loss in (plan.loss for plan in plans):
        name = loss.name
        if ties and name not in TIE_LOSSES:
            return (
                f"Run {source.number} learns from {ties} ties, which the loss {name} cannot; choose "
                f"{' or '.join(TIE_LOSSES)}, or start from a run without ties."
            )
        if ties and loss.nu == TIELESS_NU[name]:
            return (
                f"Run {source.number} learns from {ties} ties, which the loss {name} with ν = {loss.nu:g} "
                f"says never happen; {USUAL_NU[name]:g} is usual."
            )
        if soft and name not in SOFT_LABEL_LOSSES:
            return (
                f"{soft} examples of run {source.number} have soft labels, which the loss {name} does not "
                f"take; choose {' or '.join(SOFT_LABEL_LOSSES)}."
            )
    return ""


def _kinds_of_examples(source: Run) -> tuple[int, int]:
    """Return how many examples are ties and how many have soft labels."""
    ties = soft = 0
    try:
        for line in read_json_lines(absolute(source.directory) / "examples.jsonl"):
            ties += bool(line.get("tie"))
            soft += line.get("p", 1.0) != 1.0
    except FileNotFoundError as error:
        raise RoundRefused(
            f"The examples of run {source.number} are gone ({source.directory}); restore them from a backup."
        ) from error
    return ties, soft


def _check_copy(copy: FrozenRun, *, source: Run) -> None:
    if copy.dataset_sha256 != source.dataset_sha256:
        raise RoundRefused(
            f"The examples of run {source.number} are not those it was trained on: they have changed on the "
            "disk. Restore them from a backup."
        )


def _start(item: Round, *, source: Run, frozen: FrozenRun, actor: User | None) -> Run:
    _check_new(source, config=frozen.config)
    return queue_run(item, frozen=frozen, receipt=source.receipt, actor=actor, same_labels_as=source.number)


def _check_new(source: Run, *, config: dict[str, Any]) -> None:
    """Raise RoundRefused for a run that would only repeat another one, which gives the same weights."""
    repeated = _run_alike(runs_on_same_examples(source), config=config)
    if repeated is not None:
        raise RoundRefused(
            f"This would be run {repeated.number} once more, with the same result; change a setting, for "
            "example the seed."
        )


def runs_on_same_examples(source: Run) -> list[Run]:
    """Return the runs on the source's examples that gave a policy or still may: one query."""
    alike = source.round.runs.filter(dataset_sha256=source.dataset_sha256)
    return list(alike.exclude(job__state__in=ENDED_WITHOUT_POLICY).order_by("number"))


def run_repeated(source: Run, *, plan: RunPlan, others: Iterable[Run]) -> Run | None:
    """Return which of the other runs on the same examples the plan would only repeat."""
    return _run_alike(others, config=further_config(source, plan=plan).as_json())


def _run_alike(runs: Iterable[Run], *, config: dict[str, Any]) -> Run | None:
    wanted = _compared(config)
    return next((run for run in runs if _compared(run.config) == wanted), None)


def _compared(config: dict[str, Any]) -> dict[str, Any]:
    compared = {key: value for key, value in config.items() if key not in NOT_COMPARED}
    # The runs of a round start from one adapter or from none; its path changes when the home is moved.
    return {**compared, "parent_adapter": config.get("parent_adapter") is not None}
