"""Every loss, every weight, recomputed activations: one loop, on a tiny float32 model."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, OPTConfig, OPTForCausalLM

from tests.core.support import config, example, gradients, load_job, write_run
from training.core.logprobs import pairs as pairs_of_logps
from training.core.logprobs import reference
from training.core.logprobs.pairs import completion_token_logps
from training.core.run.config import LOSS_KEYS, read_config
from training.core.run.directory import RunDirectory
from training.core.run.files import damaged_file, write_json, write_json_lines
from training.core.run.records import RunResult, read_margins, read_metrics
from training.core.run.weights import Gradients, recompute_activations, trained_weights
from training.core.stages.dpo import run_dpo
from training.core.stages.step import batch_backward

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
    assert (result.log_ratio_per_token_chosen, result.absolute_log_ratio_per_token) == (None, None)
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
        gradients = Gradients(weights)
        gradients.add_of(0.5 * weight.sum())
        weights.add(gradients)
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


def test_recomputed_layers_that_draw_dropout_of_their_own_draw_none() -> None:
    """Those of OPT ask their own training flag, not that of a dropout layer."""
    widths = {"hidden_size": 32, "ffn_dim": 48, "word_embed_proj_dim": 32, "num_attention_heads": 4}
    torch.manual_seed(0)
    model = OPTForCausalLM(OPTConfig(vocab_size=258, num_hidden_layers=2, dropout=0.5, **widths)).eval()

    def logps() -> torch.Tensor:
        return completion_token_logps(model, prompt=(1, 5, 6, 7), completion=(9, 8, 100, 3))

    kept = logps()
    recompute_activations(model)
    recomputed = logps()
    assert torch.equal(recomputed, kept)
    weights = trained_weights(model)
    found = [Gradients(weights), Gradients(weights)]
    for gradients_of_one, loss in zip(found, (kept.sum(), recomputed.sum()), strict=True):
        gradients_of_one.add_of(loss)
    for name, gradient in found[0].sums.items():
        assert torch.equal(found[1].sums[name], gradient), name
