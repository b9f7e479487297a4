"""Run by torchrun: the gradients of a run's first batch as every rank has them, and the batch's figures."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import torch

from tests.core.support import gradients, load_job
from training.core.diagnostics import figures_of
from training.core.distributed import join_ranks, leave_ranks
from training.core.errors import TrainingError
from training.core.run.directory import RunDirectory
from training.core.stages.step import batch_backward


def main(directory: Path, *, out: Path) -> None:
    """Save gradients and figures of this rank, and what an error on the last rank becomes."""
    ranks = join_ranks()
    job = replace(load_job(RunDirectory(directory), weights_seed=1), ranks=ranks)
    looks = batch_backward(job, step=0)
    torch.save(gradients(job.policy), out / f"gradients-{ranks.rank}.pt")
    (out / f"figures-{ranks.rank}.json").write_text(json.dumps(asdict(figures_of(looks))))

    def failing() -> None:
        if ranks.rank == ranks.size - 1:
            raise TrainingError("the last one cannot go on")

    try:
        ranks.together(failing)
    except TrainingError as error:
        (out / f"error-{ranks.rank}.txt").write_text(str(error))
    leave_ranks()


if __name__ == "__main__":
    main(Path(sys.argv[1]), out=Path(sys.argv[2]))
