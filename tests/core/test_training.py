"""Stage dpo from a run directory to an adapter, on a tiny random model in float32."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.core.support import config, example, gradients, load_job, plain_pair_logps, shake, write_run
from training.core.errors import TrainingError
from training.core.logprobs.pairs import PairTokenLogps
from training.core.losses.inputs import PairLogps
from training.core.losses.select import preference_loss
from training.core.model.loading import reference_mode, trainable_parameters
from training.core.run.adapter import read_probe
from training.core.run.config import read_config
from training.core.run.directory import DpoExample, Receipt, RunDirectory
from training.core.run.files import damaged_file, sha256_of_file
from training.core.run.records import RunResult, read_margins, read_metrics
from training.core.stages import dpo
from training.core.stages.dpo import run_dpo
from training.core.stages.job import DpoRun
from training.core.stages.preferences import PreferenceData
from training.core.stages.references import check_step_zero
from training.core.stages.step import batch_backward


def train(run: RunDirectory) -> RunResult:
    run_dpo(run, config=read_config(run.config))
    return RunResult.from_json(json.loads(run.result.read_text()))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> RunDirectory:
    """Six usable pairs and an identical one, two epochs of three steps, trained to the end."""
    same = example(0, id="same", chosen=example(0).rejected)
    examples = [same, *(example(number) for number in range(6))]
    run = write_run(tmp_path_factory.mktemp("finished") / "run", base=base_folder, examples=examples)
    train(run)
    return run


def test_training_raises_the_margin_and_the_accuracy(finished: RunDirectory) -> None:
    result = RunResult.from_json(json.loads(finished.result.read_text()))
    assert result.train_accuracy == 1.0
    assert result.train_margin is not None
    assert result.train_margin > 0.1
    assert (result.steps, result.used, result.examples) == (6, 6, 7)
    assert result.loss_first is not None
    assert result.loss_last is not None
    assert result.loss_last < result.loss_first


def test_the_first_step_starts_from_the_reference_itself(finished: RunDirectory) -> None:
    first = next(read_metrics(finished.metrics))
    assert first.loss == torch.tensor(2.0).log().item()
    assert (first.rewards_chosen, first.rewards_rejected, first.rewards_margins) == (0, 0, 0)
    assert (first.rewards_accuracies, first.rewards_contradicted) == (0, 0)
    assert first.absolute_log_ratio_per_token == 0


def test_every_step_has_one_line_of_figures(finished: RunDirectory) -> None:
    metrics = list(read_metrics(finished.metrics))
    assert [line.step for line in metrics] == [1, 2, 3, 4, 5, 6]
    assert [line.epoch for line in metrics] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert metrics[0].learning_rate == 5e-3
    for line in metrics:
        assert line.rewards_chosen is not None
        assert line.rewards_rejected is not None
        assert line.rewards_margins == pytest.approx(line.rewards_chosen - line.rewards_rejected, abs=1e-6)
        assert line.grad_norm > 0
        assert line.tokens_per_second > 0


def test_margins_are_told_per_example_and_epoch(finished: RunDirectory) -> None:
    margins = {(record.id, record.epoch): record for record in read_margins(finished.margins)}
    assert set(margins) == {(f"pair-{number}", epoch) for number in range(6) for epoch in (0, 1, 2)}
    result = json.loads(finished.result.read_text())
    last = [margins[f"pair-{number}", 2].margin_after for number in range(6)]
    assert sum(margin or 0 for margin in last) / 6 == pytest.approx(result["train_margin"])
    for number in range(6):
        start, first, second = (margins[f"pair-{number}", epoch] for epoch in (0, 1, 2))
        assert (start.step, start.margin_before, start.margin_after) == (0, 0.0, second.margin_after)
        assert first.margin_after == second.margin_before
        delta = sum(second.h_chosen) - sum(second.h_rejected)
        assert second.margin_before == pytest.approx(0.1 * delta, abs=1e-4)


def test_the_receipt_names_what_was_left_out(finished: RunDirectory) -> None:
    receipt = Receipt.from_json(json.loads(finished.receipt.read_text()))
    assert (receipt.examples, receipt.used, receipt.steps) == (7, 6, 6)
    assert [(entry.id, entry.reason) for entry in receipt.left_out] == [("same", "identical")]


def test_the_result_says_what_it_was_made_with(finished: RunDirectory, base_folder: Path) -> None:
    result = RunResult.from_json(json.loads(finished.result.read_text()))
    assert result.examples_sha256 == sha256_of_file(finished.examples)
    assert result.adapter_sha256 == sha256_of_file(finished.adapter / "adapter_model.safetensors")
    assert len(result.base_sha256) == 64
    assert result.versions["torch"] == torch.__version__
    assert result.parent_sha256 is None


# What somebody does who has the base, the adapter and PEFT, and nothing of the trainer.
RELOAD = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, tokens = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
policy = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).eval()
ids = torch.tensor([tokens])

def logps():
    with torch.no_grad():
        every = policy(input_ids=ids).logits[0].float().log_softmax(-1)
    return every[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()

found = {"policy": logps()}
with policy.disable_adapter():
    found["reference"] = logps()
assert not [name for name in sys.modules if name.startswith("training")]
print(json.dumps(found))
"""


def test_the_adapter_loads_with_peft_alone_and_gives_the_trainer_s_own_log_probs(
    finished: RunDirectory, base_folder: Path
) -> None:
    probe = read_probe(finished.adapter)
    command = [sys.executable, "-c", RELOAD, str(base_folder), str(finished.adapter)]
    done = subprocess.run(
        [*command, json.dumps(probe.token_ids)], capture_output=True, text=True, check=True, timeout=300
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(probe.policy_logps) == len(probe.token_ids) - 1
    assert found["policy"] == pytest.approx(probe.policy_logps, abs=1e-4)
    assert found["reference"] == pytest.approx(probe.reference_logps, abs=1e-4)
    assert probe.policy_logps != pytest.approx(probe.reference_logps, abs=1e-2)
    assert probe.prompt_tokens < len(probe.token_ids)


def test_the_adapter_folder_is_float32_lora_on_attention_and_mlp_with_hashes(finished: RunDirectory) -> None:
    weights = load_file(finished.adapter / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    layers = {name.split(".")[-3] for name in weights}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    settings = json.loads((finished.adapter / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"], settings["peft_type"]) == (4, 8, "LORA")
    assert {name.rpartition(".")[2] for name in settings["target_modules"]} == layers
    assert settings["target_modules"] == sorted(settings["target_modules"])
    assert damaged_file(finished.adapter) is None
    assert set(json.loads((finished.adapter / "manifest.json").read_text())["files"]) == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "probe.json",
    }
    assert "| Loss | dpo (beta 0.1) |" in (finished.adapter / "README.md").read_text()


def test_a_bfloat16_base_is_trained_through_float32_weights(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0), example(1)], dtype="bfloat16")
    job = load_job(run)
    assert {weight.dtype for weight in trainable_parameters(job.policy).values()} == {torch.float32}
    result = train(run)
    assert result.loss_first == torch.tensor(2.0).log().item()
    assert result.train_margin is not None
    assert result.train_margin > 0


def test_the_gradient_of_a_step_is_that_of_one_batch(tmp_path: Path, base_folder: Path) -> None:
    examples = [example(number, p=0.8, weight=number + 1) for number in range(4)]
    changes = {"optimizer": {"pairs_per_step": 4}}
    job = load_job(
        write_run(tmp_path / "run", base=base_folder, examples=examples, **changes), weights_seed=1
    )
    looks = batch_backward(job, step=0)
    pair_by_pair = gradients(job.policy)
    job.optimizer.zero_grad()

    loss = _one_batch_loss(job)
    torch.autograd.backward(loss)
    at_once = gradients(job.policy)
    assert sum(look.loss for look in looks) / 4 == pytest.approx(float(loss.detach()), rel=1e-5)
    assert pair_by_pair.keys() == at_once.keys()
    for name, gradient in at_once.items():
        assert torch.allclose(pair_by_pair[name], gradient, rtol=1e-3, atol=1e-6), name


def _one_batch_loss(job: Any) -> torch.Tensor:
    """Σ w·loss / pairs as one expression, from plain log-probs of policy and reference."""
    live, reference = [], []
    for pair in job.data.items:
        live.append(plain_pair_logps(job.policy, pair))
        with reference_mode(job.policy):
            reference.append(plain_pair_logps(job.policy, pair))
    logps = PairLogps(
        policy_chosen=torch.stack([pair.chosen.sum() for pair in live]),
        policy_rejected=torch.stack([pair.rejected.sum() for pair in live]),
        reference_chosen=torch.stack([pair.chosen.sum() for pair in reference]),
        reference_rejected=torch.stack([pair.rejected.sum() for pair in reference]),
        chosen_tokens=torch.tensor([len(pair.chosen) for pair in live]),
        rejected_tokens=torch.tensor([len(pair.rejected) for pair in live]),
        p=torch.tensor([pair.p for pair in job.data.items]),
        tie=torch.tensor([False for _ in job.data.items]),
    )
    weights = torch.tensor([pair.weight for pair in job.data.items])
    return (weights * preference_loss(logps, settings=job.config.loss)).mean()


def test_no_gradient_reaches_the_base(run: RunDirectory) -> None:
    job = load_job(run, weights_seed=2)
    batch_backward(job, step=0)
    with_gradient = {name for name, weight in job.policy.named_parameters() if weight.grad is not None}
    assert with_gradient == set(trainable_parameters(job.policy))
    assert all("lora_" in name for name in with_gradient)


@pytest.mark.parametrize(
    "loss", [{"name": "cdpo", "label_smoothing": 0.1}, {"name": "ipo"}, {"name": "hinge"}]
)
def test_other_losses_train_too(tmp_path: Path, base_folder: Path, loss: dict[str, Any]) -> None:
    examples = [example(number) for number in range(2)]
    run = write_run(tmp_path / "run", base=base_folder, examples=examples, loss={"beta": 0.1, **loss})
    result = train(run)
    assert result.train_margin is not None
    assert result.train_margin > 0


def test_a_continued_adapter_keeps_the_frozen_reference(
    tmp_path: Path, base_folder: Path, finished: RunDirectory
) -> None:
    examples = [example(number) for number in range(6)]
    parent = str(finished.adapter)
    job = load_job(write_run(tmp_path / "job", base=base_folder, examples=examples, parent_adapter=parent))
    fresh = load_job(write_run(tmp_path / "fresh", base=base_folder, examples=examples))
    for continued, started in zip(references_of(job), references_of(fresh), strict=True):
        assert torch.equal(continued.chosen, started.chosen)
    check_step_zero(job)
    run = write_run(tmp_path / "run", base=base_folder, examples=examples, parent_adapter=parent)
    result = train(run)
    assert result.parent_sha256 == sha256_of_file(finished.adapter / "adapter_model.safetensors")
    before = json.loads(finished.result.read_text())["train_margin"]
    assert (next(read_metrics(run.metrics)).rewards_margins or 0) > 0
    assert result.train_margin is not None
    assert result.train_margin > before


def test_weights_that_give_no_numbers_after_the_last_step_end_the_run_by_name(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = dpo._train

    def spoilt(job: DpoRun, *, reached: dpo.Reached) -> dpo.Reached:
        reached = steps(job, reached=reached)
        with torch.no_grad():
            for weight in job.weights.parameters:
                weight.fill_(float("inf"))
        job.weights.publish()
        return reached

    monkeypatch.setattr(dpo, "_train", spoilt)
    with pytest.raises(TrainingError, match=r"infinite or no numbers; lower learning_rate"):
        train(run)
    assert not run.trained.exists()
    assert not run.adapter.exists()


def test_a_fresh_adapter_that_changes_something_is_refused(run: RunDirectory) -> None:
    job = load_job(run)
    check_step_zero(job)
    shake(job.policy, seed=3)
    with pytest.raises(
        TrainingError, match=r"a fresh adapter changes the log-probs by .* instead of nothing"
    ):
        check_step_zero(job)


def test_a_parent_that_changes_nothing_is_warned_of(
    tmp_path: Path, base_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = [example(0), example(1)]
    idle = write_run(
        tmp_path / "idle", base=base_folder, examples=examples, optimizer={"learning_rate": 1e-30}
    )
    train(idle)
    capsys.readouterr()
    train(write_run(tmp_path / "next", base=base_folder, examples=examples, parent_adapter=str(idle.adapter)))
    assert "warning: the parent adapter changes nothing" in capsys.readouterr().out


def references_of(job: DpoRun) -> tuple[PairTokenLogps, ...]:
    assert isinstance(job.data, PreferenceData)
    assert job.data.references is not None
    return job.data.references


def refusal(run: RunDirectory) -> str:
    with pytest.raises(TrainingError) as refused:
        train(run)
    assert not run.result.exists()
    return str(refused.value)


def test_a_run_without_a_usable_pair_is_refused(tmp_path: Path, base_folder: Path) -> None:
    same = example(0, chosen=example(0).rejected)
    run = write_run(tmp_path / "run", base=base_folder, examples=[same])
    assert refusal(run).startswith("none of the 1 examples can be used (1 identical)")
    assert json.loads(run.receipt.read_text())["left_out"][0]["id"] == "pair-0"


def test_an_empty_file_of_examples_is_refused(tmp_path: Path, base_folder: Path) -> None:
    no_examples: list[DpoExample] = []
    run = write_run(tmp_path / "run", base=base_folder, examples=no_examples)
    assert refusal(run) == "examples.jsonl is empty; put one example in each line"


def test_a_missing_file_of_examples_is_refused(run: RunDirectory) -> None:
    run.examples.unlink()
    assert "examples.jsonl does not exist" in refusal(run)


def test_a_base_model_that_is_not_there_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", base=tmp_path / "absent", examples=[example(0)])
    assert "absent is not a folder; give a model folder or a Hugging Face id" in refusal(run)


def test_a_base_model_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text("{}")
    (tmp_path / "base" / "pytorch_model.bin").write_bytes(b"pickle")
    run = write_run(tmp_path / "run", base=tmp_path / "base", examples=[example(0)])
    assert "has no .safetensors file; save its weights as safetensors" in refusal(run)


def test_a_base_model_that_changed_since_the_run_was_frozen_is_refused(
    tmp_path: Path, base_folder: Path
) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0)], base_sha256="0" * 64)
    assert "config.json expects 000000000000…; the base was changed since the run was frozen" in refusal(run)


def test_a_parent_of_another_shape_is_refused(
    tmp_path: Path, base_folder: Path, finished: RunDirectory
) -> None:
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(0)],
        parent_adapter=str(finished.adapter),
        lora={"r": 8, "alpha": 8},
    )
    assert refusal(run).startswith("lora.r = 8, the parent adapter has 4; continue with the parent's value")


def test_a_parent_that_is_no_adapter_is_refused(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0)], parent_adapter=str(tmp_path))
    assert "has no adapter_config.json; give a folder that a run wrote" in refusal(run)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_step(
    tmp_path: Path, base_folder: Path
) -> None:
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(number) for number in range(4)],
        optimizer={"learning_rate": 1.0, "max_grad_norm": 1e30, "weight_decay": 0.0, "epochs": 50},
        lora={"r": 4, "alpha": 1e30},
    )
    cause = refusal(run)
    assert cause.startswith("the ")
    assert " of step " in cause
    assert "lower learning_rate (1)" in cause


def test_settings_given_to_the_trainer_are_read_from_its_file(base_folder: Path, run: RunDirectory) -> None:
    assert read_config(run.config) == config(base_folder)
