"""`python -m training.core RUN_DIR`: one run, from its directory and back into it."""

import argparse
import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from training.core.errors import RunStoppedError, TrainingError
from training.core.guide import DESCRIPTION, EPILOG, write_example
from training.core.process import exclusive, rank_of_environment, stop_when_asked
from training.core.run.config import RunConfig, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import write_json
from training.parent_death import die_with_parent_if_asked

if TYPE_CHECKING:
    from training.core.distributed import Ranks

FAILED = 1
DISK_FULL = 74
STOPPED = 143
# A full disk, a quota that is used up, a limit on the size of files.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> int:
    """Run the directory named on the command line; returns the exit code."""
    # Threads of OpenMP that wait for each other spin, which takes the core from the one waited for wherever
    # other programs run too: ten times slower in the worst case seen. Read when torch is first imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = _arguments()
    if arguments.example is not None:
        return _example(arguments.example, base_model=arguments.base_model)
    die_with_parent_if_asked()
    stop_when_asked()
    run = RunDirectory(arguments.run_dir.resolve())
    try:
        with _held(run):
            return _attempt(run, last_look=not arguments.until_trained)
    except NotADirectoryError:
        return _fail(f"{run.path} is not a folder; give a run directory with config.json and examples.jsonl")
    except (TrainingError, OSError) as error:
        # The directory is not ours (or cannot be written), so neither is its error.json.
        return _fail(_cause(error, run=run), code=_code(error))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.core",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [--until-trained] RUN_DIR\n       %(prog)s --example DIR [--base-model MODEL]",
    )
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        type=Path,
        nargs="?",
        help="the folder with config.json and examples.jsonl",
    )
    parser.add_argument(
        "--until-trained",
        action="store_true",
        help="stage dpo: end when the adapter or model is written, with trained.json; the same command "
        "without this adds the last look at every example, and result.json",
    )
    parser.add_argument(
        "--example", metavar="DIR", type=Path, help="write a small run directory to start from"
    )
    parser.add_argument(
        "--base-model",
        metavar="MODEL",
        default="HuggingFaceTB/SmolLM2-135M-Instruct",
        help="the example's base model: a folder or a Hugging Face id (default: %(default)s)",
    )
    arguments = parser.parse_args()
    if (arguments.run_dir is None) == (arguments.example is None):
        parser.error("give one RUN_DIR, or --example DIR to have one written")
    return arguments


def _example(directory: Path, *, base_model: str) -> int:
    try:
        write_example(directory, base_model=base_model)
    except (TrainingError, OSError) as error:
        return _fail(str(error))
    print(
        f"Written: {directory}/config.json and examples.jsonl. Train it: python -m training.core {directory}"
    )
    return 0


@contextmanager
def _held(run: RunDirectory) -> Iterator[None]:
    """Of several processes that train the run, the first holds its lock."""
    if rank_of_environment() == 0:
        with exclusive(run.lock):
            yield
    else:
        yield


def _attempt(run: RunDirectory, *, last_look: bool) -> int:
    first = rank_of_environment() == 0
    if first:
        run.error.unlink(missing_ok=True)
    try:
        config = read_config(run.config)
        if run.result.exists():
            _say_finished(run, first=first)
        elif last_look or not run.is_trained:
            _stage(run, config=config, last_look=last_look)
    except Exception as error:  # noqa: BLE001 - the edge of the process: whatever happened becomes a cause
        if not isinstance(error, TrainingError) and _code(error) == FAILED:
            traceback.print_exc()
        cause = _cause(error, run=run)
        if first:
            _write_error(run, cause=cause)
            _fail(cause)
        return _code(error)
    return 0


def _say_finished(run: RunDirectory, *, first: bool) -> None:
    if first:
        print(f"{run.path} is finished; remove result.json to have its last part done again")


def _stage(run: RunDirectory, *, config: RunConfig, last_look: bool) -> None:
    # Imported here so that --help and a refused configuration need no torch.
    from training.core.distributed import join_ranks, leave_ranks

    ranks = join_ranks()
    try:
        _run_stage(run, config=config, ranks=ranks, last_look=last_look)
    finally:
        leave_ranks()


def _run_stage(run: RunDirectory, *, config: RunConfig, ranks: "Ranks", last_look: bool) -> None:
    match config.stage:
        case "score":
            from training.core.stages.score import run_score

            run_score(run, config=config, ranks=ranks)
        case "sft":
            from training.core.stages.sft import run_sft

            run_sft(run, config=config, ranks=ranks)
        case _:
            from training.core.stages.dpo import run_dpo

            run_dpo(run, config=config, ranks=ranks, last_look=last_look)


def _code(error: Exception) -> int:
    """The exit code of an error."""
    if isinstance(error, RunStoppedError):
        return STOPPED
    return DISK_FULL if _is_full(error) else FAILED


def _is_full(error: Exception) -> bool:
    # safetensors and SQLite report a full disk as exceptions of their own, known by their text alone.
    texts = ("No space left on device", "File too large", "disk is full")
    return getattr(error, "errno", None) in NO_SPACE or any(text in str(error) for text in texts)


def _cause(error: Exception, *, run: RunDirectory) -> str:
    """One line that says why the run ended."""
    text = " ".join(str(error).split())
    if isinstance(error, TrainingError):
        return text
    if _is_full(error):
        return f"the disk of {run.path} is full; free some space and start the same run again: it goes on"
    return f"{type(error).__name__}: {text or 'no further message'}"


def _write_error(run: RunDirectory, *, cause: str) -> None:
    try:
        write_json(run.error, value={"cause": cause})
    except OSError as error:
        print(f"error.json could not be written: {error}", file=sys.stderr)


def _fail(cause: str, *, code: int = FAILED) -> int:
    print(cause, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
