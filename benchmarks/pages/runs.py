"""The runs of the benchmark's study: rows, jobs that have ended, and run directories with all their steps."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.pages.world import World
    from training.models import Round, Run

CURVES = (
    "rewards/chosen",
    "rewards/rejected",
    "rewards/margins",
    "rewards/accuracies",
    "logps/chosen",
    "logps/rejected",
    "log_ratio_per_token/chosen",
    "log_ratio_per_token/rejected",
    "grad_norm",
    "learning_rate",
    "tokens_per_second",
)


def write_runs(world: World) -> None:
    """Write a finished run, with its jobs, for every round but the last, whose sampling is done."""
    from django.conf import settings

    from training.models import Job

    home = Path(settings.STUDIO_HOME)
    metrics = metrics_lines(world.size.steps)
    for item in world.rounds:
        run = run_of(world, item) if item is not world.rounds[-1] else None
        _job(world, Job.Kind.SAMPLING, round=item, total=2 * world.size.prompts)
        for kind in (Job.Kind.HELDOUT, Job.Kind.SCORING):
            _job(world, kind, policy=item.sampled_policy, total=world.size.heldout)
        if run is None:
            continue
        _job(world, Job.Kind.RUN, round=item, run=run, total=world.size.steps)
        folder = home / run.directory
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(metrics)
        margins = margins_of(item)
        (folder / "margins.jsonl").write_text(json_lines(margins))
        contradicted_first = sorted(margins, key=lambda row: row["margin_after"])
        (folder / "contradictions.jsonl").write_text(json_lines(contradicted_first))


def run_of(world: World, item: Round) -> Run:
    from training.models import Run

    return Run.objects.create(
        round=item,
        config={
            "stage": "dpo",
            "loss": {"name": "dpo", "beta": 0.1},
            "optimizer": {"learning_rate": 5e-5, "epochs": 2, "pairs_per_step": 8},
        },
        receipt={
            "usable": world.size.prompts,
            "left_out": {"ties": 300},
            "labels": world.size.prompts,
            "rounds": {str(item.number): {"usable": world.size.prompts, "weight": 1.0}},
        },
        dataset_sha256="d" * 64,
        directory=f"bench/{world.study.slug}/{item.number}",
        result={
            "train_accuracy": 0.8,
            "train_margin": 1.2,
            "loss_first": 0.693,
            "loss_last": 0.45,
            "log_ratio_per_token_chosen": 0.01,
        },
        policy=item.chosen_policy,
    )


def _job(world: World, kind: str, **fields: Any) -> None:
    from django.utils import timezone

    from training.models import Attempt, Job

    now = timezone.now()
    done = fields["total"]
    job = Job.objects.create(
        study=world.study, kind=kind, state=Job.State.DONE, done=done, unit="responses",
        started_at=now, finished_at=now, **fields,
    )  # fmt: skip
    Attempt.objects.create(job=job, number=1, state=Attempt.State.DONE)


def metrics_lines(steps: int) -> str:
    """Return metrics.jsonl of a run that learns slowly and noisily."""
    chance = random.Random(1)
    lines = []
    for step in range(1, steps + 1):
        margin = 1.5 * (1 - math.exp(-step / 800)) + chance.gauss(0, 0.2)
        row = {"step": step, "epoch": 2 * step / steps, "loss": math.log1p(math.exp(-margin)), "time": step}
        lines.append(json.dumps(row | {name: margin + chance.gauss(0, 0.1) for name in CURVES}))
    return "\n".join(lines) + "\n"


def margins_of(item: Round) -> list[dict[str, Any]]:
    """Return the rows of margins.jsonl: one per pair of the round and look, its log-ratios left empty."""
    chance = random.Random(item.number)
    pairs = item.study.pairs.filter(batch=item.number, purpose="train").values_list("pk", flat=True)
    return [
        {
            "id": f"pair-{pk}",
            "epoch": 0,
            "step": 0,
            "margin_before": 0.0,
            "margin_after": chance.gauss(1.0, 1.0),
            "h_chosen": [],
            "h_rejected": [],
        }
        for pk in pairs
    ]


def json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)
