"""`python -m training.core RUN_DIR`: one run, from its directory and back into it."""

import argparse
import errno
import sys
import traceback
from pathlib import Path

from training.core.errors import RunStoppedError, TrainingError
from training.core.process import die_with_parent, exclusive, stop_when_asked
from training.core.run.config import RunConfig, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import write_json

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

Exit code 0: finished. 143: stopped by SIGTERM or Ctrl-C, with a checkpoint. Anything else: failed, and the
last line on stderr says why. On a CPU, OMP_NUM_THREADS sets the number of threads. With
STUDIO_DIE_WITH_PARENT=1 the process ends with its parent.
"""


def main() -> int:
    """Run the directory named on the command line; returns the exit code."""
    die_with_parent()
    stop_when_asked()
    run = RunDirectory(_arguments().run_dir.resolve())
    try:
        with exclusive(run.lock):
            return _attempt(run)
    except NotADirectoryError:
        return _fail(f"{run.path} is not a folder; give a run directory with config.json and examples.jsonl")
    except (TrainingError, OSError) as error:
        # The directory is not ours (or cannot be written), so neither is its error.json.
        return _fail(_cause(error, run=run))


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


def _attempt(run: RunDirectory) -> int:
    run.error.unlink(missing_ok=True)
    try:
        config = read_config(run.config)
        if run.result.exists():
            print(f"{run.path} is finished; remove result.json to have its last part done again")
        else:
            _stage(run, config=config)
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever happened becomes a cause
        if not isinstance(error, TrainingError):
            traceback.print_exc()
        cause = _cause(error, run=run)
        _write_error(run, cause=cause)
        _fail(cause)
        return STOPPED if isinstance(error, RunStoppedError) else FAILED
    return 0


def _stage(run: RunDirectory, *, config: RunConfig) -> None:
    # Imported here so that --help and a refused configuration need no torch.
    if config.stage == "score":
        from training.core.stages.score import run_score

        run_score(run, config=config)
    else:
        from training.core.stages.dpo import run_dpo

        run_dpo(run, config=config)


def _cause(error: Exception, *, run: RunDirectory) -> str:
    """One line that says why the run ended."""
    text = " ".join(str(error).split())
    if isinstance(error, TrainingError):
        return text
    # safetensors reports a full disk as an exception of its own, known by its text alone.
    if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in text:
        return f"the disk of {run.path} is full; free some space and start the same run again: it goes on"
    return f"{type(error).__name__}: {text or 'no further message'}"


def _write_error(run: RunDirectory, *, cause: str) -> None:
    try:
        write_json(run.error, value={"cause": cause})
    except OSError as error:
        print(f"error.json could not be written: {error}", file=sys.stderr)


def _fail(cause: str) -> int:
    print(cause, file=sys.stderr, flush=True)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
