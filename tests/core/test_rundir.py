"""The run directory's records and files, as the web side writes and reads them."""

import json
from pathlib import Path

import pytest

from tests.core.support import config, example
from training.core.errors import TrainingError
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory, ScoreExample, write_run_directory
from training.core.run.files import (
    append_lines,
    damaged_file,
    keep_lines,
    new_folder,
    read_json_lines,
    sha256_of_file,
    sha256_of_model,
    write_text,
)
from training.core.run.records import RunResult, StepMetrics, read_metrics

USER = ({"role": "user", "content": "Hello"},)
ANSWER = ({"role": "assistant", "content": "Hi"},)


def test_a_frozen_run_reads_back_as_it_was_written(tmp_path: Path) -> None:
    settings = config(tmp_path / "base")
    digest = write_run_directory(tmp_path / "run", config=settings, examples=[example(0), example(1, p=0.7)])
    run = RunDirectory(tmp_path / "run")
    assert read_config(run.config) == settings
    assert sha256_of_file(run.examples) == digest
    first, second = read_json_lines(run.examples)
    assert set(first) == {"id", "prompt", "chosen", "rejected"}
    assert second["p"] == 0.7


def test_a_run_directory_is_frozen_once(tmp_path: Path) -> None:
    write_run_directory(tmp_path, config=config(tmp_path), examples=[example(0)])
    with pytest.raises(TrainingError, match="already holds a run"):
        write_run_directory(tmp_path, config=config(tmp_path), examples=[example(1)])


def test_token_ids_are_written_where_there_are_some() -> None:
    scored = ScoreExample(
        id="a", prompt=USER, completions=(ANSWER, ANSWER), completions_token_ids=((1, 2), None)
    )
    assert json.loads(json.dumps(scored.as_json())) == {
        "id": "a",
        "prompt": list(USER),
        "completions": [list(ANSWER), list(ANSWER)],
        "completions_token_ids": [[1, 2], None],
    }


def test_step_metrics_carry_the_names_that_other_trainers_use(tmp_path: Path) -> None:
    metrics = StepMetrics(*range(20))
    assert list(metrics.as_json()) == [
        "step",
        "epoch",
        "loss",
        "rewards/chosen",
        "rewards/rejected",
        "rewards/accuracies",
        "rewards/margins",
        "rewards/contradicted",
        "logps/chosen",
        "logps/rejected",
        "log_ratio_per_token/chosen",
        "log_ratio_per_token/rejected",
        "absolute_log_ratio_per_token",
        "length_margin_correlation",
        "examples",
        "grad_norm",
        "grad_clipped",
        "learning_rate",
        "tokens_per_second",
        "time",
    ]
    append_lines(tmp_path / "metrics.jsonl", values=[metrics.as_json()])
    assert list(read_metrics(tmp_path / "metrics.jsonl")) == [metrics]


def test_files_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """Steps had no number of examples, steps and results an estimate of KL on texts it does not hold on."""
    line = {"step": 3, "epoch": 0.5, "loss": 0.6, "kl_per_token": 0.2}
    append_lines(tmp_path / "metrics.jsonl", values=[line])
    (step,) = read_metrics(tmp_path / "metrics.jsonl")
    assert (step.step, step.loss, step.examples, step.absolute_log_ratio_per_token) == (3, 0.6, None, None)
    hashes = dict.fromkeys(("base_sha256", "examples_sha256", "config_sha256"), "")
    counts = {"examples": 4, "used": 4, "steps": 1, "seconds": 1.0}
    written = {"stage": "dpo", "versions": {}, "loss_last": 0.6, "kl_per_token": 0.2, **hashes, **counts}
    result = RunResult.from_json(written)
    assert (result.loss_last, result.loss_end, result.loss_steps) == (0.6, None, None)


def test_a_line_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_json_lines(path)] == [1, 2]
    keep_lines(path, wanted=lambda line: line["step"] < 2)
    assert path.read_text() == '{"step": 1}\n'


def test_reading_lines_that_were_never_written_gives_none(tmp_path: Path) -> None:
    assert list(read_json_lines(tmp_path / "absent.jsonl")) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "text"
    write_text(path, text="old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, text="new \ud800")
    assert path.read_text() == "old"


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), new_folder(tmp_path / "made") as folder:
        folder.write_text("a folder holds no text")
    assert not (tmp_path / "made").exists()
    with new_folder(tmp_path / "made") as folder:
        (folder / "part").write_text("whole")
    assert damaged_file(tmp_path / "made") is None


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "manifest"])
def test_a_damaged_folder_names_the_file(tmp_path: Path, damage: str) -> None:
    with new_folder(tmp_path / "made") as folder:
        (folder / "part").write_bytes(b"whole")
    part, manifest = tmp_path / "made" / "part", tmp_path / "made" / "manifest.json"
    match damage:
        case "flip":
            part.write_bytes(b"whale")
        case "truncate":
            part.write_bytes(b"who")
        case "remove":
            part.unlink()
        case "manifest":
            manifest.write_text("{")
    expected = "manifest.json" if damage == "manifest" else "part"
    assert damaged_file(tmp_path / "made") == expected


def test_a_models_identity_is_that_of_its_weights(tmp_path: Path) -> None:
    for name in ("b.safetensors", "a.safetensors"):
        (tmp_path / name).write_bytes(name.encode())
    before = sha256_of_model(tmp_path)
    (tmp_path / "README.md").write_text("words")
    assert sha256_of_model(tmp_path) == before
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert sha256_of_model(tmp_path) != before


def test_a_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(TrainingError, match=r"has no \.safetensors file; save its weights as safetensors"):
        sha256_of_model(tmp_path)
