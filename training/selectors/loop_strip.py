"""Where the loop stands and the one thing to do next. Pure: from rows that are loaded already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from training.models import Round
from training.selectors.job_rows import JobRow
from training.selectors.readiness import Readiness
from training.selectors.rounds import RoundRow


@dataclass(frozen=True)
class LoopStep:
    """A stage of the current round; `state` is todo, now, done, failed or stopped."""

    name: str
    state: str
    detail: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class NextAction:
    """What a lead does next. `kind` names the control that the page draws; `sentence` says why or why not.

    Kinds: open, choose, override, label, train, watch, retry, prompts. `job` is the one to retry or to watch,
    `judged` the policy that fails its gate.
    """

    kind: str
    label: str
    sentence: str
    ready: bool = True
    job: JobRow | None = None
    also_label: bool = False
    also_train: bool = False
    also_compare: bool = False
    judged: Judged | None = None


@dataclass(frozen=True)
class Judged:
    """How far people have come in judging a policy, and what its gate says of it.

    `failures` say what fails, `gate` is the gate in one sentence, `verdict` pass, fail or unknown.
    """

    prompts: int
    waiting: int
    failures: tuple[str, ...]
    gate: str
    verdict: str
    label: str
    policy_number: int


NAMES = ("Sampling", "Labelling", "Ready", "Training", "Evaluating")


def loop_steps(
    current: RoundRow | None, *, readiness: Readiness | None, judged: Judged | None = None
) -> list[LoopStep]:
    """Return Sampling → Labelling → Ready → Training → Evaluating for a round.

    `judged` is about the policy that came of it.
    """
    if current is None:
        return [LoopStep(name, "todo", "") for name in NAMES]
    return [
        sampling_step(current),
        labelling_step(current),
        ready_step(current, readiness=readiness),
        training_step(current),
        evaluating_step(current, judged=judged),
    ]


def sampling_step(current: RoundRow) -> LoopStep:
    job = current.sampling
    pairs = counted(current.labels.pairs, "pair")
    if job is None or current.round.state != Round.State.COLLECTING:
        return LoopStep("Sampling", "done", pairs)
    if job.is_done:
        dropped = current.round.pairs_dropped
        return LoopStep("Sampling", "done", pairs + (f", {dropped} dropped as identical" if dropped else ""))
    return job_step("Sampling", job, idle=pairs)


def labelling_step(current: RoundRow) -> LoopStep:
    labels = current.labels
    if current.round.state != Round.State.COLLECTING:
        return LoopStep("Labelling", "done", counted(labels.labels, "label"))
    if not labels.pairs:
        return LoopStep("Labelling", "todo", "waits for the first pair")
    state = "now" if labels.labels_open else "done"
    detail = f"{labels.labels} of {counted(labels.labels_wanted, 'label')}"
    return LoopStep("Labelling", state, detail, done=labels.labels, total=labels.labels_wanted)


def ready_step(current: RoundRow, *, readiness: Readiness | None) -> LoopStep:
    if current.round.state != Round.State.COLLECTING or readiness is None:
        return LoopStep("Ready", "done", "labels are frozen")
    detail = f"{readiness.usable:,} of {readiness.needed:,} usable"
    if readiness.conflicts:
        detail += f"; {counted(readiness.conflicts, 'conflict')}"
    if readiness.ready:
        return LoopStep("Ready", "done", detail)
    state = "now" if current.labels.labels else "todo"
    return LoopStep("Ready", state, detail, done=readiness.usable, total=readiness.needed)


def training_step(current: RoundRow) -> LoopStep:
    if current.round.state == Round.State.COLLECTING:
        return LoopStep("Training", "todo", "")
    row = current.newest_run
    made = [run.policy for run in current.runs if run.policy]
    if len(made) > 1 and not any(run.job and run.job.is_active for run in current.runs):
        return LoopStep("Training", "done", counted_policies(len(made)))
    if row is None or row.job is None or row.job.is_done:
        return LoopStep("Training", "done", row.policy.label if row and row.policy else "")
    return job_step("Training", row.job, idle="")


def evaluating_step(current: RoundRow, *, judged: Judged | None) -> LoopStep:
    if current.round.state not in (Round.State.TRAINED, Round.State.CLOSED):
        return LoopStep("Evaluating", "todo", "")
    open_jobs = [job for job in current.policy_jobs if not job.is_done]
    if open_jobs:
        return job_step("Evaluating", open_jobs[0], idle="")
    if judged is None or not (judged.prompts or judged.waiting):
        return LoopStep("Evaluating", "done", "held-out responses are in")
    detail = f"{counted(judged.prompts, 'prompt')} judged"
    if not judged.waiting:
        return LoopStep("Evaluating", "done", detail)
    return LoopStep("Evaluating", "now", f"{detail}; {counted(judged.waiting, 'pair')} to judge")


def job_step(name: str, job: JobRow, *, idle: str) -> LoopStep:
    state = {"queued": "now", "running": "now", "failed": "failed", "cancelled": "stopped"}.get(
        job.state, "done"
    )
    progress = f"{job.done} of {job.total} {job.unit}".strip() if job.total else idle
    detail = (
        progress if job.state == "running" else " · ".join(filter(None, [job.state_label.lower(), progress]))
    )
    return LoopStep(name, state, detail or job.state_label.lower(), done=job.done, total=job.total)


def next_action(
    current: RoundRow | None,
    *,
    readiness: Readiness | None,
    train_prompts: int,
    next_policy: str,
    judged: Judged | None = None,
    made: Sequence[Judged] = (),
) -> NextAction:
    """Return the one next step, with the reason why it is or is not ready.

    `judged` is about the policy that the next round would sample, `made` about those that the round gave.
    """
    if current is None or current.round.state in (Round.State.TRAINED, Round.State.CLOSED):
        return after_a_round(
            current, train_prompts=train_prompts, next_policy=next_policy, judged=judged, made=made
        )
    if current.round.state == Round.State.TRAINING or readiness is None:
        return while_training(current)
    return while_collecting(current, readiness=readiness)


def after_a_round(
    current: RoundRow | None,
    *,
    train_prompts: int,
    next_policy: str,
    judged: Judged | None,
    made: Sequence[Judged],
) -> NextAction:
    number = current.round.number + 1 if current else 1
    if not train_prompts:
        return NextAction(
            "prompts", "Import prompts", "The study has no training prompts yet: import a JSONL file first."
        )
    sentence = f"Samples responses to {counted(train_prompts, 'training prompt')} from {next_policy}."
    compare = current is not None
    if current and len(made) > 1 and current.round.chosen_policy_id is None:
        gave = f"Round {current.round.number} gave {counted_policies(len(made))}"
        said = f"{gave}: choose which one round {number} samples. {gates_in_short(made)}"
        return NextAction("choose", "Choose a policy", said, also_compare=True)
    if judged is not None and judged.failures:
        said = f"{judged.label} fails its gate: {judged.failures[0]} Going on from it takes a written reason."
        label = f"Open round {number} with a reason"
        return NextAction("override", label, said, ready=False, also_compare=compare, judged=judged)
    evaluating = next((job for job in current.policy_jobs if job.is_active), None) if current else None
    if evaluating:
        sentence += f" {evaluating.title} is still going on; what the gate says may change until it is done."
    elif judged is not None and judged.verdict == "unknown":
        sentence += f" Its gate is not known yet: {judged.gate}"
    if current and current.round.state == Round.State.TRAINED:
        sentence += f" Round {current.round.number} takes no further runs after that."
    stuck = next((job for job in current.policy_jobs if job.is_failed), None) if current else None
    if stuck:
        sentence += f" {stuck.title} failed; retry it below, so that the policies can be compared."
    return NextAction(
        "open", f"Open round {number}", sentence, ready=evaluating is None, also_compare=compare
    )


def gates_in_short(made: Sequence[Judged]) -> str:
    """Return which of several policies pass their gates, fail them, or are not known yet, in one sentence."""
    said = {"pass": "passes", "fail": "fails", "unknown": "is not known yet"}
    parts = [f"{judged.label} {said[judged.verdict]}" for judged in made]
    return f"Their gates: {', '.join(parts)}."


def while_training(current: RoundRow) -> NextAction:
    job = current.newest_run.job if current.newest_run else None
    if job and job.can_retry:
        said = job.cause or f"The run was {job.state_label.lower()}."
        return NextAction("train", "Train again", said, job=job)
    return NextAction(
        "watch", "Watch the run", "The labels of this round are frozen while the run trains.", job=job
    )


def while_collecting(current: RoundRow, *, readiness: Readiness) -> NextAction:
    job, labels = current.sampling, current.labels
    if job and job.can_retry:
        said = job.cause or "Sampling was cancelled. The pairs that exist can be labelled."
        also_label = labels.labels_open > 0
        return NextAction(
            "retry", "Sample the rest", said, job=job, also_train=readiness.ready, also_label=also_label
        )
    if readiness.ready and not (job and job.is_active):
        left = f" {counted(labels.labels_open, 'label')} could still be given." if labels.labels_open else ""
        label = f"Train on round {current.round.number}"
        return NextAction("train", label, readiness.sentence + left, also_label=labels.labels_open > 0)
    first = "The first pairs come while sampling goes on." if not labels.pairs and not readiness.ready else ""
    sentence = " ".join(filter(None, [first, readiness.sentence, readiness.note if readiness.ready else ""]))
    return NextAction(
        "label", "Label pairs", sentence, ready=labels.labels_open > 0, also_train=readiness.ready
    )


def counted_policies(number: int) -> str:
    return "1 policy" if number == 1 else f"{number} policies"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
