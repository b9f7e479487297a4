"""Stage sft: demonstrations are learnt, and the result is a base that preferences can be trained on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.core.sft_support import KilledError, sft_config, train, write_sft_run
from tests.core.support import example, gradients, shake, write_run
from training.core.errors import TrainingError
from training.core.logprobs.pairs import completion_token_logps
from training.core.model.merging import merged
from training.core.run import checkpoints
from training.core.run.config import read_config
from training.core.run.directory import write_run_directory
from training.core.run.files import damaged_file, read_json_lines
from training.core.run.records import RunResult, read_demonstration_metrics
from training.core.stages import loop
from training.core.stages.demonstrations import batch_backward
from training.core.stages.dpo import run_dpo
from training.core.stages.sft import prepare_sft


@pytest.mark.parametrize("trainable", ["lora", "full"])
def test_demonstrations_are_learnt_and_recorded_step_by_step(
    tmp_path: Path, base_folder: Path, trainable: str
) -> None:
    rate = 1e-2 if trainable == "lora" else 1e-3
    run = write_sft_run(
        tmp_path / "run",
        base=base_folder,
        trainable=trainable,
        optimizer={"learning_rate": rate, "epochs": 4},
    )
    result = train(run)
    losses = [metrics.loss for metrics in read_demonstration_metrics(run.metrics)]
    assert len(losses) == result.steps == 12
    assert sum(losses[-3:]) < sum(losses[:3]) - 0.5
    accuracies = [metrics.mean_token_accuracy for metrics in read_demonstration_metrics(run.metrics)]
    assert sum(accuracies[-3:]) > sum(accuracies[:3])
    assert (result.stage, result.used, result.loss_last) == ("sft", 9, losses[-1])
    for values in read_json_lines(run.metrics):
        assert {
            "step",
            "epoch",
            "loss",
            "mean_token_accuracy",
            "grad_norm",
            "learning_rate",
            "tokens_per_second",
        } <= set(values)


def test_a_loss_that_rises_to_stay_is_told_as_divergence(tmp_path: Path, base_folder: Path) -> None:
    settings = {"learning_rate": 1.0, "epochs": 1}
    result = train(write_sft_run(tmp_path / "run", base=base_folder, trainable="full", optimizer=settings))
    assert [warning.partition(":")[0] for warning in result.warnings] == ["divergence"]


def test_the_loss_is_the_mean_over_the_batch_s_completion_tokens_and_leaves_prompts_alone(
    tmp_path: Path, base_folder: Path
) -> None:
    job = prepare_sft(write_sft_run(tmp_path / "run", base=base_folder), config=sft_config(base_folder))
    shake(job.policy, seed=5)
    indices = (0, 1, 2)
    learnt = batch_backward(job, indices=indices, step=0)
    total = torch.zeros(())
    tokens = hits = 0
    expected = gradients(job.policy)
    job.weights.forget_gradients()
    for index in indices:
        item = job.items[index]
        ids = torch.tensor([item.prompt + item.completion])
        labels = ids.clone()
        labels[:, : len(item.prompt)] = -100
        logits = job.policy(input_ids=ids).logits[0, :-1]
        total = total + nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")
        tokens += len(item.completion)
        hits += int((logits.argmax(1) == labels[0, 1:]).sum())
    torch.autograd.backward(total / tokens)
    found = sum(one.nll for one in learnt) / sum(one.completion_tokens for one in learnt)
    assert found == pytest.approx(float(total / tokens), rel=1e-5)
    assert sum(one.hits for one in learnt) == hits
    for name, gradient in gradients(job.policy).items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-6), name


def test_the_gradient_does_not_depend_on_the_size_of_a_pass(tmp_path: Path, base_folder: Path) -> None:
    found = []
    for size in (1, 3):
        config = sft_config(base_folder, optimizer={"pairs_per_pass": size})
        run = write_sft_run(tmp_path / str(size), base=base_folder, optimizer={"pairs_per_pass": size})
        job = prepare_sft(run, config=config)
        shake(job.policy, seed=5)
        batch_backward(job, indices=(0, 1, 2), step=0)
        found.append(gradients(job.policy))
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-4, atol=1e-6), name


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_the_result_is_a_base_folder_with_the_log_probs_of_base_and_adapter(
    tmp_path: Path, base_folder: Path, dtype: str, tolerance: float
) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, dtype=dtype)
    result = train(run)
    job = prepare_sft(run, config=read_config(run.config))
    loop.restore(job)
    model = AutoModelForCausalLM.from_pretrained(run.model, trust_remote_code=False)
    assert model.dtype == getattr(torch, dtype)
    for item in job.items[:3]:
        with torch.no_grad():
            wanted = completion_token_logps(job.policy, prompt=item.prompt, completion=item.completion)
            found = completion_token_logps(model, prompt=item.prompt, completion=item.completion)
        assert float((found - wanted).abs().mean()) < tolerance
    assert damaged_file(run.model) is None
    assert result.model_sha256 is not None
    tokenizer = AutoTokenizer.from_pretrained(run.model)
    original = AutoTokenizer.from_pretrained(base_folder)
    assert tokenizer.chat_template == original.chat_template
    assert tokenizer("Hello")["input_ids"] == original("Hello")["input_ids"]
    assert "trained on demonstrations" in (run.model / "README.md").read_text()


def test_merging_rounds_once_and_leaves_no_adapter(tmp_path: Path, base_folder: Path) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, dtype="bfloat16")
    job = prepare_sft(run, config=read_config(run.config))
    shake(job.policy, seed=2)
    layer: Any = job.policy.get_submodule("base_model.model.model.layers.0.mlp.up_proj")
    wanted = layer.base_layer.weight.float() + layer.scaling["default"] * (
        layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )
    model: Any = merged(job.policy)
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, wanted.to(torch.bfloat16))
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    assert merged(model) is model


def test_preferences_can_be_trained_on_the_result(tmp_path: Path, base_folder: Path) -> None:
    sft = write_sft_run(tmp_path / "sft", base=base_folder)
    result = train(sft)
    dpo = write_run(
        tmp_path / "dpo",
        base=sft.model,
        examples=[example(number) for number in range(4)],
        base_sha256=result.model_sha256,
    )
    run_dpo(dpo, config=read_config(dpo.config))
    assert RunResult.from_json(json.loads(dpo.result.read_text())).base_sha256 == result.model_sha256


def test_a_run_killed_after_a_checkpoint_ends_in_the_same_bits(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = write_sft_run(tmp_path / "whole", base=base_folder)
    train(whole)
    killed = write_sft_run(tmp_path / "killed", base=base_folder)
    save = checkpoints.save_checkpoint

    def save_and_die(*arguments: Any, **named: Any) -> None:
        save(*arguments, **named)
        raise KilledError

    monkeypatch.setattr(checkpoints, "save_checkpoint", save_and_die)
    with pytest.raises(KilledError):
        train(killed)
    monkeypatch.undo()
    assert not killed.model.exists()
    train(killed)
    first, second = (load_file(run.model / "model.safetensors") for run in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [metrics.loss for metrics in read_demonstration_metrics(killed.metrics)] == [
        metrics.loss for metrics in read_demonstration_metrics(whole.metrics)
    ]


def test_a_run_without_a_usable_demonstration_says_so(tmp_path: Path, base_folder: Path) -> None:
    run = write_sft_run(tmp_path / "run", base=base_folder, count=0)
    with pytest.raises(TrainingError, match=r"examples.jsonl is empty"):
        train(run)
    shutil.rmtree(run.path)
    write_run_directory(run.path, config=sft_config(base_folder), examples=[example(1)])
    with pytest.raises(TrainingError, match="none of the 1 examples can be used"):
        train(run)
