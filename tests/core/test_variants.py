"""Every loss, every weight, held-out prompts, recomputed activations: one loop, on a tiny float32 model."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.core.support import config, example, gradients, load_job, random_pair, write_run
from training.core.diagnostics import figures_of
from training.core.errors import TrainingError
from training.core.logprobs import pairs as pairs_of_logps
from training.core.logprobs import reference
from training.core.run.config import LOSS_KEYS, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, write_json, write_json_lines
from training.core.run.records import RunResult, read_evaluations, read_margins, read_metrics
from training.core.run.weights import recompute_activations, trained_weights
from training.core.stages import preparation
from training.core.stages.closing import finish
from training.core.stages.dpo import run_dpo
from training.core.stages.evaluation import best, is_due, patience_is_over
from training.core.stages.heldout import split_by_prompt
from training.core.stages.schedule import Plan
from training.core.stages.step import batch_backward, train_step

PAIRED = [name for name in LOSS_KEYS if name != "kto"]


def train(run: RunDirectory) -> RunResult:
    run_dpo(run, config=read_config(run.config))
    return RunResult.from_json(json.loads(run.result.read_text()))


def loss_settings(name: str) -> dict[str, Any]:
    return {"name": name, **({"label_smoothing": 0.1} if "label_smoothing" in LOSS_KEYS[name] else {})}


@pytest.mark.parametrize("name", PAIRED)
def test_every_loss_of_pairs_raises_its_margin(tmp_path: Path, base_folder: Path, name: str) -> None:
    ties = [example(2, tie=True)] if name in {"rao_kupper", "davidson"} else []
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(0), example(1), *ties],
        loss=loss_settings(name),
        optimizer={"epochs": 3},
    )
    result = train(run)
    assert result.train_margin is not None
    assert result.train_margin_before is not None
    assert result.train_margin > result.train_margin_before
    assert result.used == 2 + len(ties)


def test_a_second_round_asks_the_reference_only_for_what_is_new(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = pairs_of_logps.groups_token_logps

    def counted(policy: Any, *, groups: Any) -> Any:
        asked.extend(len(completion) for _, completions in groups for completion in completions)
        return real(policy, groups=groups)

    monkeypatch.setattr(reference, "groups_token_logps", counted)
    ledger = str(tmp_path / "ledgers" / "base.sqlite")
    counts = []
    for round_number, pairs in enumerate((4, 6), start=1):
        run = write_run(
            tmp_path / f"round-{round_number}",
            base=base_folder,
            examples=[example(number) for number in range(pairs)],
            ledger=ledger,
            optimizer={"epochs": 1},
        )
        train(run)
        counts.append(len(asked))
    assert counts == [2 * 4, 2 * 6]


@pytest.mark.parametrize("name", ["simpo", "orpo"])
def test_a_loss_without_a_reference_asks_for_none(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("training.core.stages.references.open_ledger", None)
    run = write_run(
        tmp_path / "run", base=base_folder, examples=[example(0), example(1)], loss=loss_settings(name)
    )
    result = train(run)
    assert (result.log_ratio_per_token_chosen, result.kl_per_token) == (None, None)
    assert not list(run.path.glob("*.sqlite"))
    records = {(record.id, record.epoch): record for record in read_margins(run.margins)}
    assert records["pair-0", 0].margin_before != 0
    assert records["pair-0", 0].margin_before == records["pair-0", 1].margin_before


def test_ties_have_no_right_order_to_be_accurate_about(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(0, tie=True), example(1, tie=True)],
        loss={"name": "davidson"},
    )
    result = train(run)
    assert (result.train_accuracy, result.train_contradicted) == (None, None)
    assert next(read_metrics(run.metrics)).rewards_accuracies is None


def unpaired_run(path: Path, *, base: Path) -> RunDirectory:
    """Six completions, every second one desirable, for KTO."""
    path.mkdir()
    run = RunDirectory(path)
    pairs = [example(number) for number in range(6)]
    write_json_lines(
        run.examples,
        values=[
            {
                "id": pair.id,
                "prompt": list(pair.prompt),
                "completion": list(pair.chosen),
                "label": number % 2 == 0,
            }
            for number, pair in enumerate(pairs)
        ],
    )
    settings = config(base, loss={"name": "kto"}, optimizer={"epochs": 6, "pairs_per_step": 4})
    write_json(run.config, value=settings.as_json())
    return run


def test_kto_raises_what_is_desirable_and_lowers_the_rest(tmp_path: Path, base_folder: Path) -> None:
    run = unpaired_run(tmp_path / "run", base=base_folder)
    result = train(run)
    assert result.loss_first == pytest.approx(0.5)
    assert result.train_accuracy == 1.0
    assert result.train_margin is not None
    assert result.train_margin > 0.1
    last = {record.id: record for record in read_margins(run.margins) if record.epoch == 6}
    assert last["pair-0"].h_chosen
    assert last["pair-1"].h_rejected
    assert not last["pair-0"].h_rejected


def test_kto_resumes_to_the_same_adapter(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (unpaired_run(tmp_path / name, base=base_folder) for name in ("whole", "broken"))
    train(whole)
    with monkeypatch.context() as patched:
        patched.setattr("training.core.stages.dpo.finish", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(broken)
    train(broken)
    weights = (run.adapter / "adapter_model.safetensors" for run in (whole, broken))
    assert len({path.read_bytes() for path in weights}) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_full_fine_tuning_gives_a_model_folder(tmp_path: Path, base_folder: Path, dtype: str) -> None:
    settings = config(base_folder, dtype=dtype, optimizer={"learning_rate": 1e-4, "epochs": 4}).as_json()
    del settings["lora"], settings["parent_adapter"]
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    write_json(run.config, value=settings | {"trainable": "full"})
    write_json_lines(run.examples, values=[example(number).as_json() for number in range(2)])
    result = train(run)
    assert result.loss_first == pytest.approx(torch.tensor(2.0).log().item(), abs=1e-3)
    assert result.train_margin is not None
    assert result.train_margin > 0.01
    assert damaged_file(run.model) is None
    assert not run.adapter.exists()
    model = AutoModelForCausalLM.from_pretrained(run.model)
    assert model.dtype == getattr(torch, dtype)
    assert AutoTokenizer.from_pretrained(run.model).chat_template
    base = AutoModelForCausalLM.from_pretrained(base_folder)
    assert not torch.equal(model.lm_head.weight.float(), base.lm_head.weight)
    assert "every weight" in (run.model / "README.md").read_text()


def test_small_steps_on_a_bfloat16_model_are_not_rounded_away(tmp_path: Path, base_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.bfloat16)
    weights = trained_weights(model)
    name, weight = next(iter(weights.model.items()))
    master = weights.masters[name]
    assert master.dtype == torch.float32
    before = weight.detach().clone()
    for _ in range(2):
        weight.grad = torch.full_like(weight, 0.5)
        weights.collect_gradients()
    assert weight.grad is None
    assert master.grad is not None
    assert torch.all(master.grad == 1.0)
    for _ in range(1000):
        with torch.no_grad():
            master.sub_(1e-6 * master.grad)
    weights.publish()
    moved = (before.float() - weight.detach().float()).mean()
    assert float(moved.detach()) == pytest.approx(1e-3, rel=0.1)


def test_recomputed_activations_give_the_same_gradient_and_keep_dropout_off(
    tmp_path: Path, base_folder: Path
) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0), example(1)])
    kept, recomputed = load_job(run, weights_seed=1), load_job(run, weights_seed=1)
    recompute_activations(recomputed.policy)
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    mlp = recomputed.policy.get_base_model().model.layers[0].mlp  # type: ignore[operator]
    mlp.register_forward_pre_hook(count)
    for job in (kept, recomputed):
        batch_backward(job, step=0)
    # Both pairs fit into one pass; its layers are computed going forward and once more going back.
    assert calls == 2
    for name, gradient in gradients(kept.policy).items():
        assert torch.allclose(gradients(recomputed.policy)[name], gradient, atol=1e-7), name
    dropouts = [module for module in recomputed.policy.modules() if isinstance(module, torch.nn.Dropout)]
    assert not any(module.training for module in dropouts)


def heldout_run(path: Path, *, base: Path, **evaluation: Any) -> RunDirectory:
    """Twelve prompts of which about a third is held out."""
    return write_run(
        path,
        base=base,
        examples=[example(number) for number in range(12)],
        evaluation={"share": 0.3, **evaluation},
        optimizer={"epochs": 6, "pairs_per_step": 4},
        checkpoint_every=3,
    )


def test_held_out_prompts_are_evaluated_and_not_trained_on(tmp_path: Path, base_folder: Path) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder)
    result = train(run)
    receipt = json.loads(run.receipt.read_text())
    trained = {record.id for record in read_margins(run.margins)}
    assert 0 < receipt["heldout"] < 12
    assert len(trained) == 12 - receipt["heldout"]
    evaluations = list(read_evaluations(run.metrics))
    assert [evaluation.epoch for evaluation in evaluations] == [1, 2, 3, 4, 5, 6]
    assert {evaluation.examples for evaluation in evaluations} == {receipt["heldout"]}
    line = next(json.loads(line) for line in run.metrics.read_text().splitlines() if "eval_loss" in line)
    assert {"eval_loss", "eval_rewards/accuracies", "eval_rewards/margins", "step", "epoch"} <= line.keys()
    assert result.heldout is not None
    assert result.heldout["step"] == result.kept_step == result.steps
    assert result.stopped_early is False


def test_heldout_file_is_evaluated_on_as_it_is(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(
        tmp_path / "run",
        base=base_folder,
        examples=[example(number) for number in range(4)],
        evaluation={"every": 1},
        optimizer={"epochs": 1},
    )
    write_json_lines(run.heldout, values=[example(number).as_json() for number in range(4, 7)])
    train(run)
    evaluations = list(read_evaluations(run.metrics))
    assert [(evaluation.step, evaluation.examples) for evaluation in evaluations] == [(1, 3), (2, 3)]


@pytest.mark.parametrize("stopped_at", [None, 4, 9])
def test_early_stop_and_best_weights_survive_an_interruption(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int | None
) -> None:
    """The accuracy falls after epoch two: two evaluations later it stops, with that epoch's weights."""
    real = figures_of
    accuracies = iter((0.5, 0.75, 0.5, 0.5, 0.5, 0.5))
    told: dict[int, float] = {}

    def told_accuracy(looks: Any) -> Any:
        key = round(1e6 * sum(look.loss for look in looks))
        if key not in told:
            told[key] = next(accuracies)
        return replace(real(looks), rewards_accuracies=told[key])

    monkeypatch.setattr("training.core.stages.evaluation.figures_of", told_accuracy)
    run = heldout_run(tmp_path / "run", base=base_folder, patience=2, keep_best=True)
    if stopped_at is not None:
        with monkeypatch.context() as patched:
            steps = 0

            def dying(*arguments: Any, **options: Any) -> Any:
                nonlocal steps
                steps += 1
                if steps == stopped_at:
                    raise KeyboardInterrupt
                return train_step(*arguments, **options)

            patched.setattr("training.core.stages.dpo.train_step", dying)
            with pytest.raises(KeyboardInterrupt):
                train(run)
    result = train(run)
    evaluations = list(read_evaluations(run.metrics))
    assert [line.rewards_accuracies for line in evaluations] == [0.5, 0.75, 0.5, 0.5]
    assert result.stopped_early is True
    assert result.steps == evaluations[-1].step
    assert result.kept_step == evaluations[1].step
    assert result.heldout is not None
    assert result.heldout["eval_rewards/accuracies"] == 0.75
    stored = load_file(run.checkpoints / f"best-{result.kept_step:08d}" / "weights.safetensors")
    adapter = load_file(run.adapter / "adapter_model.safetensors")
    assert sorted(float(weight.sum()) for weight in stored.values()) == sorted(
        float(weight.sum()) for weight in adapter.values()
    )


def test_best_weights_that_are_damaged_are_said_to_be(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder, keep_best=True)

    def damage_and_finish(*arguments: Any, **options: Any) -> None:
        (weights,) = run.checkpoints.glob("best-*/weights.safetensors")
        weights.write_bytes(weights.read_bytes()[:-1])
        finish(*arguments, **options)

    monkeypatch.setattr("training.core.stages.dpo.finish", damage_and_finish)
    monkeypatch.setattr("training.core.stages.dpo.best", lambda evaluations: evaluations[0])
    monkeypatch.setattr("training.core.stages.closing.best", lambda evaluations: evaluations[0])
    result = train(run)
    assert result.kept_step == result.steps
    assert any("the weights of the best evaluation" in warning for warning in result.warnings)


def test_patience_and_due_evaluations(base_folder: Path) -> None:
    settings = config(base_folder, evaluation={"share": 0.5, "every": 4, "patience": 1}).evaluation
    plan = Plan(pairs=10, pairs_per_step=1, epochs=1, seed=0)
    assert [step for step in range(11) if is_due(step, plan=plan, settings=settings)] == [4, 8, 10]
    assert not patience_is_over([], settings=settings, best=best)


def test_a_prompt_is_on_one_side_and_stays_there() -> None:
    pairs = [random_pair(prompt=4, chosen=3, rejected=2, seed=number // 2) for number in range(200)]
    training, heldout = split_by_prompt(pairs, share=0.3, seed=1)
    assert len(training) + len(heldout) == 200
    assert 0.15 < len(heldout) / 200 < 0.45
    assert not {pair.prompt for pair in training} & {pair.prompt for pair in heldout}
    more = split_by_prompt(pairs, share=0.5, seed=1)[1]
    assert {pair.prompt for pair in heldout} <= {pair.prompt for pair in more}
    assert split_by_prompt(pairs, share=0.3, seed=2)[1] != heldout


def test_a_share_that_holds_nothing_out_is_refused(tmp_path: Path, base_folder: Path) -> None:
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0)], evaluation={"share": 0.001})
    with pytest.raises(TrainingError, match="nothing is held out"):
        train(run)


def test_a_share_that_holds_everything_out_is_refused(
    tmp_path: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation, "split_by_prompt", lambda items, **_: ((), items))
    run = write_run(tmp_path / "run", base=base_folder, examples=[example(0)], evaluation={"share": 0.5})
    with pytest.raises(TrainingError, match="holds out every prompt there is"):
        train(run)


def test_the_best_of_equals_is_the_first(tmp_path: Path, base_folder: Path) -> None:
    run = heldout_run(tmp_path / "run", base=base_folder)
    train(run)
    evaluations = list(read_evaluations(run.metrics))
    highest = max(evaluation.rewards_accuracies or 0 for evaluation in evaluations)
    assert best(evaluations) == next(line for line in evaluations if line.rewards_accuracies == highest)
