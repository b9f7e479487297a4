"""The end of a dpo run: a last look at every pair, then margins.jsonl, adapter/ and result.json."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import torch

from training.core.losses.pairwise import margins
from training.core.model.loading import ADAPTER_WEIGHTS, parent_sha256
from training.core.process import raise_if_stopped
from training.core.progress import progress, say
from training.core.run.adapter import CardFigures, make_probe, write_adapter
from training.core.run.checkpoints import Position
from training.core.run.directory import Receipt, RunResult, read_margins, read_metrics
from training.core.run.files import read_json_lines, sha256_of_file, write_json, write_json_lines
from training.core.stages.step import DpoRun, pair_sums
from training.core.versions import library_versions


def finish(job: DpoRun, *, position: Position, receipt: Receipt) -> None:
    """Write what a finished run leaves: margins after training, the adapter, and result.json last."""
    final = final_margins(job)
    write_margins(job, final=final)
    figures = CardFigures(
        pairs=len(job.pairs),
        steps=position.step,
        accuracy=sum(margin > 0 for margin in final.values()) / len(final),
        margin=sum(final.values()) / len(final),
    )
    probe = make_probe(job.policy, pairs=job.pairs)
    write_adapter(job.run, policy=job.policy, config=job.config, base=job.base, probe=probe, figures=figures)
    result = _result(job, position=position, receipt=receipt, figures=figures)
    write_json(job.run.result, value=asdict(result))
    say(f"finished: accuracy {figures.accuracy:.2f}, margin {figures.margin:+.3f} on {figures.pairs} pairs")


def final_margins(job: DpoRun) -> dict[str, float]:
    """β·Δ of every pair under the policy as it is now, by example id."""
    found = {}
    with progress("last look", total=len(job.pairs)) as shown, torch.no_grad():
        for pair, reference in zip(job.pairs, job.references, strict=True):
            raise_if_stopped(where="after the last step")
            live = job.pair_logps(job.policy, prompt=pair.prompt, chosen=pair.chosen, rejected=pair.rejected)
            logps = pair_sums(live, reference=reference, p=pair.p)
            found[pair.id] = float(margins(logps, beta=job.config.loss.beta))
            shown.advance()
    return found


def write_margins(job: DpoRun, *, final: dict[str, float]) -> None:
    """Complete margins.jsonl: the margin after an epoch is the one at the example's next look."""
    before = {
        (values["id"], values["epoch"]): values["margin_before"]
        for values in read_json_lines(job.run.margins)
    }

    def completed() -> Iterator[dict[str, Any]]:
        for record in read_margins(job.run.margins):
            after = before.get((record.id, record.epoch + 1), final[record.id])
            yield replace(record, margin_after=after).as_json()

    write_json_lines(job.run.margins, values=completed())


def _result(job: DpoRun, *, position: Position, receipt: Receipt, figures: CardFigures) -> RunResult:
    losses = [metrics.loss for metrics in read_metrics(job.run.metrics)]
    return RunResult(
        stage=job.config.stage,
        examples=receipt.examples,
        used=receipt.used,
        steps=position.step,
        seconds=position.seconds,
        base_sha256=job.base.sha256,
        examples_sha256=position.examples_sha256,
        config_sha256=position.config_sha256,
        versions=library_versions(),
        parent_sha256=parent_sha256(job.config),
        adapter_sha256=sha256_of_file(job.run.adapter / ADAPTER_WEIGHTS),
        train_accuracy=figures.accuracy,
        train_margin=figures.margin,
        loss_first=losses[0],
        loss_last=losses[-1],
        pairs_per_second=job.plan.epochs * len(job.pairs) / position.seconds,
    )
