"""Held-out demonstrations: the split, evaluations, early stop, the best weights through kills."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.core.sft_support import KilledError, demonstrations, train, write_sft_run
from training.core.errors import RunStoppedError, TrainingError
from training.core.logprobs.pairs import completion_token_logps
from training.core.run import checkpoints
from training.core.run.config import read_config
from training.core.run.files import write_json_lines
from training.core.run.records import read_demonstration_evaluations, read_demonstration_metrics
from training.core.stages import loop
from training.core.stages.demonstrations import Learnt
from training.core.stages.sft import prepare_sft
from training.core.stages.sft_evaluation import lowest


def test_held_out_demonstrations_are_evaluated_after_each_epoch_and_never_learnt(
    tmp_path: Path, base_folder: Path
) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder)
    write_json_lines(run.heldout, values=demonstrations(12)[9:])
    result = train(run)
    evaluations = list(read_demonstration_evaluations(run.metrics))
    assert [one.step for one in evaluations] == [3, 6]
    job = prepare_sft(run, config=read_config(run.config))
    assert len(job.items) == 9
    loop.restore(job)
    # The last evaluation is that of the finished weights, each token counted once.
    nll, tokens = 0.0, 0
    for item in job.heldout:
        with torch.no_grad():
            logps = completion_token_logps(job.policy, prompt=item.prompt, completion=item.completion)
        nll, tokens = nll - float(logps.sum()), tokens + len(item.completion)
    assert evaluations[-1].loss == pytest.approx(nll / tokens, rel=1e-4)
    assert evaluations[-1].perplexity == pytest.approx(math.exp(nll / tokens), rel=1e-4)
    assert result.heldout == evaluations[-1].as_json()
    assert (result.used, result.steps, result.kept_step, result.stopped_early) == (9, 6, 6, False)
    assert len(list(read_demonstration_metrics(run.metrics))) == 6
    card = (run.model / "README.md").read_text()
    assert "perplexity" in card
    assert "9 of 9 examples" in card
    assert "; 3 others held out (heldout.jsonl sha256 " in card
    assert "| Epochs | 2, in 6 steps of 3 |" in card


def test_a_share_of_the_prompts_is_held_out(tmp_path: Path, base_folder: Path) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, evaluation={"share": 0.4})
    job = prepare_sft(run, config=read_config(run.config))
    assert 0 < len(job.heldout) < 9
    assert len(job.items) + len(job.heldout) == 9
    assert not {item.prompt for item in job.items} & {item.prompt for item in job.heldout}
    assert json.loads(run.receipt.read_text())["heldout"] == len(job.heldout)


def test_a_small_set_holds_a_prompt_out_whatever_its_hash(tmp_path: Path, base_folder: Path) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, evaluation={"share": 1e-9, "keep_best": True})
    job = prepare_sft(run, config=read_config(run.config))
    assert len({item.prompt for item in job.heldout}) == 1
    assert len(job.items) + len(job.heldout) == 9


# Words that no demonstration has: the better those are learnt, the less likely these become.
FOREIGN = {"prompt": "one", "completion": "9x7z4q" * 12}


@pytest.mark.parametrize("keep_best", [False, True])
def test_training_stops_when_held_out_loss_no_longer_falls_and_keeps_the_best(
    tmp_path: Path, base_folder: Path, keep_best: bool
) -> None:
    settings = {"every": 1, "patience": 2, "keep_best": keep_best}
    run = write_sft_run(tmp_path / "run", base=base_folder, optimizer={"epochs": 6}, evaluation=settings)
    write_json_lines(run.heldout, values=[FOREIGN])
    result = train(run)
    evaluations = list(read_demonstration_evaluations(run.metrics))
    best = lowest(evaluations)
    assert result.stopped_early
    assert result.steps == evaluations[-1].step == best.step + 2 < 18
    card = (run.model / "README.md").read_text()
    assert f"6 planned; stopped after {result.steps} of 18 steps of 3" in card
    assert (f"; weights of step {best.step} |" in card) == keep_best
    kept = best if keep_best else evaluations[-1]
    assert (result.kept_step, result.heldout) == (kept.step, kept.as_json())
    model = AutoModelForCausalLM.from_pretrained(run.model, trust_remote_code=False)
    job = prepare_sft(run, config=read_config(run.config))
    nll, tokens = 0.0, 0
    for item in job.heldout:
        with torch.no_grad():
            logps = completion_token_logps(model, prompt=item.prompt, completion=item.completion)
        nll, tokens = nll - float(logps.sum()), tokens + len(item.completion)
    assert nll / tokens == pytest.approx(kept.loss, rel=1e-3)


def told_losses(monkeypatch: pytest.MonkeyPatch, *losses: float) -> None:
    """Give the evaluations that come these held-out losses."""
    coming = iter(losses)

    def looks(*_: Any, **__: Any) -> list[Learnt]:
        return [Learnt(nll=next(coming), hits=1, completion_tokens=1, tokens=2)]

    monkeypatch.setattr("training.core.stages.sft_evaluation.heldout_looks", looks)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_held_out_loss_that_is_no_number_ends_the_run_by_name(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, loss: float
) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, evaluation={"share": 0.4, "every": 2})
    told_losses(monkeypatch, loss)
    with pytest.raises(TrainingError, match=f"the held-out loss of step 2 is {loss}; lower learning_rate"):
        train(run)


def test_best_weights_outlive_a_better_evaluation_that_did_not_survive(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run dies after its second evaluation, the best; made again on the way, that is no longer so."""
    settings = {"share": 0.4, "every": 1, "keep_best": True}
    run = write_sft_run(tmp_path / "run", base=base_folder, evaluation=settings, checkpoint_every=1)
    real = checkpoints.save_checkpoint

    def dying(*arguments: Any, **named: Any) -> None:
        if named["position"].step == 2:
            raise KilledError
        real(*arguments, **named)

    with monkeypatch.context() as patched:
        told_losses(patched, 2.0, 1.0)
        patched.setattr(checkpoints, "save_checkpoint", dying)
        with pytest.raises(KilledError):
            train(run)
    assert (run.checkpoints / "best-00000002").exists()
    told_losses(monkeypatch, *[3.0] * 20)
    result = train(run)
    assert result.warnings == ()
    assert (result.kept_step, result.heldout and result.heldout["eval_loss"]) == (1, 2.0)
    assert [path.name for path in run.checkpoints.glob("best-*")] == ["best-00000001"]


def test_best_weights_that_are_gone_are_said_to_be_in_the_card_too(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_sft_run(
        tmp_path / "run", base=base_folder, evaluation={"share": 0.4, "every": 1, "keep_best": True}
    )
    told_losses(monkeypatch, 1.0, *[2.0] * 20)
    monkeypatch.setattr(checkpoints, "save_best", lambda *_, **__: None)
    result = train(run)
    assert result.kept_step == result.steps
    (warning,) = result.warnings
    assert warning.startswith("the weights of the best evaluation (step 1) are gone or damaged")
    assert f"What the run warned of:\n\n- {warning}\n" in (run.model / "README.md").read_text()


def test_an_evaluation_that_a_stop_interrupted_is_made_once_after_the_resume(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder)
    write_json_lines(run.heldout, values=demonstrations(12)[9:])

    def stop(*arguments: Any, **named: Any) -> None:
        raise RunStoppedError("stopped")

    monkeypatch.setattr("training.core.stages.sft_evaluation.heldout_looks", stop)
    with pytest.raises(RunStoppedError):
        train(run)
    assert list(read_demonstration_evaluations(run.metrics)) == []
    monkeypatch.undo()
    train(run)
    assert [one.step for one in read_demonstration_evaluations(run.metrics)] == [3, 6]
    assert [one.step for one in read_demonstration_metrics(run.metrics)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("evaluation", "heldout", "said"),
    [
        ({"patience": 2, "every": 5}, None, "evaluation.every, evaluation.patience: nothing is held out"),
        ({"keep_best": True}, None, "evaluation.keep_best: nothing is held out"),
        ({}, [], "heldout.jsonl: examples.jsonl is empty"),
    ],
)
def test_evaluation_with_nothing_held_out_is_refused_by_name(
    tmp_path: Path,
    base_folder: Path,
    evaluation: dict[str, Any],
    heldout: list[dict[str, Any]] | None,
    said: str,
) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, evaluation=evaluation)
    if heldout is not None:
        write_json_lines(run.heldout, values=heldout)
    with pytest.raises(TrainingError, match=said):
        train(run)
