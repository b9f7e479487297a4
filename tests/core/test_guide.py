"""What --help teaches is what there is, and the example that it offers can be trained on."""

import json
from pathlib import Path

import pytest

from training.core.errors import TrainingError
from training.core.guide import DESCRIPTION, EPILOG, PAIRS, write_example
from training.core.progress import Progress
from training.core.run.config import LOSS_KEYS, STAGES, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import read_json_lines
from training.core.stages.dpo import run_dpo


def test_every_loss_its_keys_and_every_stage_are_in_the_help() -> None:
    for name in (*LOSS_KEYS, *STAGES, *(key for keys in LOSS_KEYS.values() for key in keys)):
        assert name in DESCRIPTION, name
    for word in ("torchrun", "143", "74", "result.json", "warnings"):
        assert word in EPILOG


def test_the_example_is_a_run_directory_that_trains(tmp_path: Path, base_folder: Path) -> None:
    run = RunDirectory(tmp_path / "example")
    write_example(run.path, base_model=str(base_folder))
    config = read_config(run.config)
    assert len(list(read_json_lines(run.examples))) == len(PAIRS)
    run_dpo(run, config=config)
    assert json.loads(run.result.read_text())["used"] == len(PAIRS)
    with pytest.raises(TrainingError, match="already holds a run"):
        write_example(run.path, base_model=str(base_folder))


def test_progress_under_a_job_is_a_json_line_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Progress("step", total=2)
    shown.advance("loss 0.6931")
    shown.advance()
    first, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["message"].startswith("step 1/2  loss 0.6931  about ")
    assert (first["doing"], first["done"], first["total"]) == ("step", 1, 2)
    assert (last["message"], last["seconds_left"]) == ("step 2/2", 0)
