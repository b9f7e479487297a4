"""`python -m training.core RUN_DIR`: one run, from its directory and back into it."""

import argparse
import errno
import sys
import traceback
from pathlib import Path

from training.core.config import RunConfig, read_config
from training.core.errors import RunStoppedError, TrainingError
from training.core.files import write_json
from training.core.process import die_with_parent, exclusive, stop_on_sigterm
from training.core.rundir import RunDirectory

FAILED = 1
STOPPED = 143
DESCRIPTION = """\
Train an adapter with Direct Preference Optimization, or score completions, as a run directory says.

A run directory needs two files:

  config.json      {"base_model": "PATH_OR_HUB_ID", "loss": {"name": "dpo", "beta": 0.1},
                    "lora": {"r": 16, "alpha": 32},
                    "optimizer": {"learning_rate": 5e-5, "epochs": 1, "pairs_per_step": 8}}
                   Everything but base_model has a default; "parent_adapter" continues an adapter;
                   "stage": "score" scores instead of training.
  examples.jsonl   one preference a line, in TRL's conversational format:
                   {"prompt": [{"role": "user", "content": "…"}],
                    "chosen": [{"role": "assistant", "content": "…"}], "rejected": [{…}]}
                   Optional: id; p (soft label, the probability that chosen is better); weight;
                   prompt_token_ids, chosen_token_ids, rejected_token_ids (trained on as they are).
                   To score: {"id": …, "prompt": […], "completion": […]}, or completions: [[…], […]].

The reference is the base model itself: the adapter switched off.
"""
EPILOG = """\
What it writes into the directory:

  receipt.json     how many examples were used, and each one left out with the reason
  metrics.jsonl    a line per optimiser step: loss, rewards, margins, accuracies, log-probs, gradient norm
  margins.jsonl    per example and epoch: β·Δ before and after, and log-ratios token by token
  checkpoints/     the newest two; the same command goes on from the newest whole one
  adapter/         PEFT safetensors, model card, probe.json, manifest.json with hashes
  scores.jsonl     stage score: id, index, tokens, policy_logp, reference_logp (summed, in nats)
  result.json      final figures, written last: without it the run is unfinished
  error.json       why the last attempt ended, if it did not finish

Exit code 0: finished. 143: stopped between two steps by SIGTERM, with a checkpoint. Anything else: failed, and the
last line on stderr says why. On a CPU, OMP_NUM_THREADS sets the number of threads. With STUDIO_DIE_WITH_PARENT=1 the
process ends with its parent.
"""


def main() -> int:
    """Run the directory named on the command line; returns the exit code."""
    die_with_parent()
    stop_on_sigterm()
    run = RunDirectory(_arguments().run_dir.resolve())
    if not run.path.is_dir():
        return _fail(
            run, cause=f"{run.path} is not a folder; give a run directory with config.json and examples.jsonl"
        )
    try:
        with exclusive(run.lock):
            run.error.unlink(missing_ok=True)
            _run(run)
    except RunStoppedError as stopped:
        _fail(run, cause=str(stopped))
        return STOPPED
    except TrainingError as error:
        return _fail(run, cause=str(error))
    except OSError as error:
        traceback.print_exc()
        return _fail(run, cause=_cause_of_os_error(error, run=run))
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever happened becomes a cause
        traceback.print_exc()
        return _fail(
            run, cause=f"{type(error).__name__}: {' '.join(str(error).split()) or 'no further message'}"
        )
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.core",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run_dir", metavar="RUN_DIR", type=Path, help="the folder with config.json and examples.jsonl"
    )
    return parser.parse_args()


def _run(run: RunDirectory) -> None:
    config = read_config(run.config)
    if run.result.exists():
        print(f"{run.path} is finished; remove result.json to do its last part again")
        return
    _stage(run, config=config)


def _stage(run: RunDirectory, *, config: RunConfig) -> None:
    # Imported here so that --help and a refused configuration need no torch.
    if config.stage == "score":
        from training.core.score import run_score

        run_score(run, config=config)
    else:
        from training.core.trainer import run_dpo

        run_dpo(run, config=config)


def _cause_of_os_error(error: OSError, *, run: RunDirectory) -> str:
    if error.errno == errno.ENOSPC:
        return f"the disk of {run.path} is full; free some space and start the same run again: it goes on"
    return f"{error.strerror or error} ({error.filename or type(error).__name__})"


def _fail(run: RunDirectory, *, cause: str) -> int:
    if run.path.is_dir():
        try:
            write_json(run.error, value={"cause": cause})
        except OSError as error:
            print(f"error.json could not be written: {error}", file=sys.stderr)
    print(cause, file=sys.stderr, flush=True)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
