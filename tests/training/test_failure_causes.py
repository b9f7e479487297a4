"""What a run that wrote no cause of its own is said to have failed of."""

from pathlib import Path

import pytest

from training.core.run.directory import RunDirectory
from training.services.runs import LOG_FILE, cause_of_failure

LAUNCHER = """\
Traceback (most recent call last):
  File "launch.py", line 1, in <module>
{error}
Traceback (most recent call last):
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
============================================================
training.core FAILED
------------------------------------------------------------
Root Cause (first observed failure):
  exitcode  : 1 (pid: 4711)
============================================================
"""


def cause(tmp_path: Path, *, log: str, earlier: str = "") -> str:
    (tmp_path / LOG_FILE).write_text(earlier + log)
    return cause_of_failure(RunDirectory(tmp_path), returncode=1, since=len(earlier))


@pytest.mark.parametrize("rank", ["", "[rank1]: "])
def test_the_error_of_a_process_is_told_rather_than_the_frame_of_its_launcher(
    tmp_path: Path, rank: str
) -> None:
    error = f"{rank}RuntimeError: connection reset by peer"
    assert error in cause(tmp_path, log=LAUNCHER.format(error=error))


def test_without_an_error_the_last_line_with_words_is_told(tmp_path: Path) -> None:
    assert "exit status 1: Illegal instruction;" in cause(
        tmp_path, log="step 1/2\nIllegal instruction\n=====\n\n"
    )


def test_an_empty_log_leaves_the_exit_status(tmp_path: Path) -> None:
    assert cause(tmp_path, log="").startswith("The trainer ended with exit status 1; its log")


def test_the_error_of_an_earlier_attempt_is_not_told(tmp_path: Path) -> None:
    told = cause(tmp_path, log="Segmentation fault\n", earlier="RuntimeError: connection reset by peer\n")
    assert "Segmentation fault" in told
