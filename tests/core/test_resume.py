"""A run that is interrupted anywhere ends in the very adapter that an undisturbed one ends in."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.core.kills import Killed, kill_at_call
from tests.core.support import example, write_run
from training.core.errors import TrainingError
from training.core.run import checkpoints
from training.core.run.config import read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import sha256_of_file, write_json
from training.core.run.records import read_margins, read_metrics, read_result
from training.core.stages import closing
from training.core.stages import dpo as trainer
from training.core.stages.dpo import run_dpo

pytestmark = pytest.mark.slow  # trains the same run many times over


def train(run: RunDirectory) -> None:
    run_dpo(run, config=read_config(run.config))


def as_an_earlier_version_wrote(run: RunDirectory) -> None:
    """Take from the run's files what earlier versions did not write, and put in what they did."""
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    for line in lines:
        del line["examples"], line["absolute_log_ratio_per_token"]
        line["kl_per_token"] = 0.1
    run.metrics.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if run.trained.exists():
        new = ("loss_start", "loss_end", "loss_steps", "absolute_log_ratio_per_token")
        kept = {key: value for key, value in json.loads(run.trained.read_text()).items() if key not in new}
        write_json(run.trained, value={**kept, "kl_per_token": None})


def outcome(run: RunDirectory) -> tuple[Any, ...]:
    """All that must not depend on interruptions: the adapter folder, the figures, the margins."""
    hashes = {path.name: sha256_of_file(path) for path in sorted(run.adapter.iterdir())}
    metrics = [
        {key: value for key, value in line.as_json().items() if key not in {"time", "tokens_per_second"}}
        for line in read_metrics(run.metrics)
    ]
    return hashes, metrics, list(read_margins(run.margins))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> tuple[Any, ...]:
    examples = [example(number) for number in range(6)]
    run = write_run(tmp_path_factory.mktemp("undisturbed") / "run", base=base_folder, examples=examples)
    train(run)
    return outcome(run)


PLACES = [
    pytest.param(trainer, "train_step", 2, False, id="before the second step"),
    pytest.param(trainer, "train_step", 3, True, id="between update and metrics"),
    pytest.param(trainer, "append_lines", 4, True, id="between metrics and checkpoint"),
    pytest.param(checkpoints, "write_json", 2, False, id="inside the second checkpoint"),
    pytest.param(checkpoints, "save_checkpoint", 2, True, id="after the second checkpoint"),
    pytest.param(closing, "write_margins", 1, False, id="after the last step"),
    pytest.param(closing, "write_adapter", 1, False, id="before the adapter"),
    pytest.param(closing, "write_json", 1, False, id="between the adapter and trained.json"),
    pytest.param(closing, "all_looks", 1, False, id="before the last look"),
    pytest.param(closing, "write_json", 2, False, id="before the result"),
]


@pytest.mark.parametrize(("module", "name", "call"), [(trainer, "train_step", 4), (closing, "all_looks", 1)])
def test_a_run_that_an_earlier_version_began_ends_with_all_figures(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, call: int
) -> None:
    with monkeypatch.context() as patched:
        kill_at_call(patched, module, name, call=call, after=False)
        with pytest.raises(Killed):
            train(run)
    as_an_earlier_version_wrote(run)
    train(run)
    result, losses = read_result(run.result), [step.loss for step in read_metrics(run.metrics)]
    assert result.loss_steps == 3
    assert result.loss_start == pytest.approx(sum(losses[:3]) / 3)
    assert result.loss_end == pytest.approx(sum(losses[3:]) / 3)
    assert result.absolute_log_ratio_per_token is not None


@pytest.mark.parametrize(("module", "name", "call", "after"), PLACES)
def test_a_killed_run_goes_on_to_the_same_end(
    run: RunDirectory,
    undisturbed: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    call: int,
    after: bool,
) -> None:
    with monkeypatch.context() as patched:
        kill_at_call(patched, module, name, call=call, after=after)
        with pytest.raises(Killed):
            train(run)
    assert not run.result.exists()
    train(run)
    assert outcome(run) == undisturbed
    assert json.loads(run.result.read_text())["steps"] == 6


def test_the_last_look_can_be_added_later_and_leaves_the_weights_alone(
    run: RunDirectory, undisturbed: tuple[Any, ...]
) -> None:
    run_dpo(run, config=read_config(run.config), last_look=False)
    assert run.is_trained
    assert not run.result.exists()
    trained = read_result(run.trained)
    assert (trained.steps, trained.train_accuracy) == (6, None)
    written = {path: path.stat().st_mtime_ns for path in run.adapter.iterdir()}

    train(run)

    assert {path: path.stat().st_mtime_ns for path in run.adapter.iterdir()} == written
    assert outcome(run) == undisturbed
    result = read_result(run.result)
    assert result.train_accuracy is not None
    assert result.adapter_sha256 == trained.adapter_sha256


def test_weights_that_were_damaged_before_the_last_look_are_written_again(
    run: RunDirectory, undisturbed: tuple[Any, ...]
) -> None:
    run_dpo(run, config=read_config(run.config), last_look=False)
    (run.adapter / "adapter_model.safetensors").write_bytes(b"cut")
    assert not run.is_trained
    run_dpo(run, config=read_config(run.config), last_look=False)
    assert run.is_trained
    train(run)
    assert outcome(run) == undisturbed


@pytest.mark.parametrize("file", ["weights", "optimizer", "rng", "position"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    run: RunDirectory,
    undisturbed: tuple[Any, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: str,
) -> None:
    with monkeypatch.context() as patched:
        kill_at_call(patched, trainer, "train_step", call=5)
        with pytest.raises(Killed):
            train(run)
    (damaged,) = (run.checkpoints / "step-00000004").glob(f"{file}.*")
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    train(run)
    assert "checkpoint step-00000004 is damaged" in capsys.readouterr().out
    assert outcome(run) == undisturbed


def test_without_a_whole_checkpoint_a_run_starts_over(
    run: RunDirectory, undisturbed: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        kill_at_call(patched, trainer, "train_step", call=4)
        with pytest.raises(Killed):
            train(run)
    (run.checkpoints / "step-00000002" / "manifest.json").unlink()
    train(run)
    assert outcome(run) == undisturbed


def test_the_newest_two_checkpoints_are_kept(run: RunDirectory) -> None:
    train(run)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-00000004", "step-00000006"]


@pytest.mark.parametrize("name", ["config", "examples"])
def test_a_run_whose_settings_or_data_changed_is_not_gone_on_with(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with monkeypatch.context() as patched:
        kill_at_call(patched, trainer, "train_step", call=4)
        with pytest.raises(Killed):
            train(run)
    if name == "config":
        changed = json.loads(run.config.read_text())
        changed["optimizer"]["learning_rate"] = 1e-3
        write_json(run.config, value=changed)
    else:
        run.examples.write_text(run.examples.read_text() + "\n")
    with pytest.raises(TrainingError, match=f"{name} of this run directory changed after step 2"):
        train(run)
