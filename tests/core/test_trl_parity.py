"""TRL 1.16's own loss code on the same batch: the same numbers where both define a loss alike.

Where they differ on purpose, a test states the difference, so that an upgrade of TRL that removes it is
noticed.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from tests.core.losses_support import settings
from tests.core.support import example, gradients, load_job, write_run
from training.core.data.encode import EncodedPair
from training.core.diagnostics import figures_of
from training.core.logprobs.pairs import completion_token_logps
from training.core.losses.kto import kto_loss, reference_point
from training.core.losses.reference_free import nll_per_token, orpo_loss, simpo_loss
from training.core.model.loading import reference_mode
from training.core.run.config import LossSettings
from training.core.stages.job import DpoRun, batch_looks
from training.core.stages.preferences import PreferenceData

pytestmark = pytest.mark.slow
BATCH = (0, 1, 2)
# Ours, and what TRL calls it.
SHARED_LOSSES = {
    "dpo": "sigmoid",
    "robust": "robust",
    "hinge": "hinge",
    "ipo": "ipo",
    "dpo_norm": "sigmoid_norm",
}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, base_folder: Path) -> DpoRun:
    """Three pairs, and a policy whose adapter is random."""
    run = write_run(
        tmp_path_factory.mktemp("parity") / "run",
        base=base_folder,
        examples=[example(number) for number in range(3)],
    )
    return load_job(run, weights_seed=11)


@pytest.fixture(scope="module")
def trl_dpo(job: DpoRun, base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DPOTrainer:
    """TRL's trainer of the same policy: the same base with the same adapter on it."""
    arguments = DPOConfig(output_dir=str(tmp_path_factory.mktemp("trl")), max_length=None, **trl_settings())
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32),
        args=arguments,
        train_dataset=Dataset.from_list([conversation(number) for number in range(3)]),
        processing_class=AutoTokenizer.from_pretrained(base_folder),
        peft_config=lora(job),
    )
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(job.policy))
    return trainer


def trl_settings() -> dict[str, Any]:
    return {
        "per_device_train_batch_size": 3,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "beta": 0.1,
    }


def lora(job: DpoRun) -> LoraConfig:
    shape = job.config.lora
    return LoraConfig(
        r=shape.r, lora_alpha=shape.alpha, target_modules=shape.target_modules, task_type="CAUSAL_LM"
    )


def conversation(number: int) -> dict[str, Any]:
    values = example(number).as_json()
    return {key: list(values[key]) for key in ("prompt", "chosen", "rejected")}


def trl_batch(trainer: DPOTrainer, *, pairs: Sequence[EncodedPair]) -> Any:
    """Our tokens as TRL collates them."""
    return trainer.data_collator(
        [
            {
                "prompt_ids": list(pair.prompt),
                "chosen_ids": list(pair.chosen),
                "rejected_ids": list(pair.rejected),
            }
            for pair in pairs
        ]
    )


def trl_loss(trainer: DPOTrainer, *, batch: Any, names: Sequence[str], **values: Any) -> Tensor:
    """The loss of a batch by TRL's own code; its figures are then in the trainer's metrics."""
    trainer.loss_types, trainer.loss_weights = list(names), values.pop("weights", [1.0] * len(names))
    trainer.label_smoothing, trainer.beta = values.pop("label_smoothing", 0.0), values.pop("beta", 0.1)
    trainer._metrics["train"].clear()
    trainer.model.train()
    loss: Tensor = trainer._compute_loss(trainer.model, batch, False)
    return loss


def with_loss(job: DpoRun, loss: LossSettings) -> DpoRun:
    assert isinstance(job.data, PreferenceData)
    return replace(job, config=replace(job.config, loss=loss), data=replace(job.data, loss=loss))


def pairs_of(job: DpoRun) -> tuple[EncodedPair, ...]:
    assert isinstance(job.data, PreferenceData)
    return job.data.items


def ours(job: DpoRun, loss: LossSettings) -> tuple[float, dict[str, float | None], dict[str, Tensor]]:
    """Our mean loss of the batch, its figures, and the gradients on the adapter."""
    job.weights.forget_gradients()
    looks = batch_looks(with_loss(job, loss), BATCH, where="in a test")
    figures = vars(figures_of(looks))
    return fmean(look.loss for look in looks), figures, gradients(job.policy)


@pytest.mark.parametrize("name", SHARED_LOSSES)
def test_one_batch_has_trls_loss_rewards_margins_and_gradients(
    job: DpoRun, trl_dpo: DPOTrainer, name: str
) -> None:
    chosen = settings(name)
    loss, figures, found = ours(job, chosen)
    batch = trl_batch(trl_dpo, pairs=pairs_of(job))
    theirs = trl_loss(
        trl_dpo,
        batch=batch,
        names=[SHARED_LOSSES[name]],
        beta=chosen.beta,
        label_smoothing=chosen.label_smoothing or 0.0,
    )
    assert loss == pytest.approx(float(theirs.detach()), rel=1e-5)
    metrics = trl_dpo._metrics["train"]
    assert figures["logps_chosen"] == pytest.approx(metrics["logps/chosen"][0], rel=1e-5)
    assert figures["logps_rejected"] == pytest.approx(metrics["logps/rejected"][0], rel=1e-5)
    for key in ("chosen", "rejected", "margins", "accuracies"):
        wanted = metrics[f"rewards/{key}"][0]
        assert figures[f"rewards_{key}"] == pytest.approx(wanted, rel=1e-4, abs=1e-5), key
    trl_dpo.model.zero_grad()
    torch.autograd.backward(theirs)
    wanted_gradients = {
        name: weight.grad for name, weight in trl_dpo.model.named_parameters() if weight.requires_grad
    }
    assert found.keys() == wanted_gradients.keys()
    for key, gradient in found.items():
        wanted_gradient = wanted_gradients[key]
        assert wanted_gradient is not None
        assert torch.allclose(gradient, wanted_gradient, rtol=1e-3, atol=1e-6), key


def test_trl_silently_ignores_label_smoothing_where_cdpo_needs_it(job: DpoRun, trl_dpo: DPOTrainer) -> None:
    batch = trl_batch(trl_dpo, pairs=pairs_of(job))
    smoothed = float(trl_loss(trl_dpo, batch=batch, names=["sigmoid"], label_smoothing=0.2))
    assert smoothed == float(trl_loss(trl_dpo, batch=batch, names=["sigmoid"]))
    loss, _, _ = ours(job, settings("cdpo", label_smoothing=0.2))
    assert abs(loss - smoothed) > 1e-3


def test_the_nll_term_averages_over_sequences_and_trls_over_the_batch_s_tokens(
    job: DpoRun, trl_dpo: DPOTrainer
) -> None:
    batch = trl_batch(trl_dpo, pairs=pairs_of(job))
    theirs = float(trl_loss(trl_dpo, batch=batch, names=["sigmoid", "sft"], weights=[1.0, 0.5]))
    plain, _, _ = ours(job, settings("dpo"))
    loss, _, _ = ours(job, settings("dpo", nll_alpha=0.5))
    with torch.no_grad():
        chosen = [
            completion_token_logps(job.policy, prompt=pair.prompt, completion=pair.chosen)
            for pair in pairs_of(job)
        ]
    assert loss - plain == pytest.approx(0.5 * fmean(-float(one.mean()) for one in chosen), rel=1e-4)
    assert theirs - plain == pytest.approx(-0.5 * float(torch.cat(chosen).mean()), rel=1e-4)
    assert abs(loss - theirs) > 1e-4


def test_trl_trains_on_the_newline_after_the_end_token_which_no_sampler_writes(
    job: DpoRun, trl_dpo: DPOTrainer
) -> None:
    newline = AutoTokenizer.from_pretrained(job.base.folder)("\n")["input_ids"]
    for pair, theirs in zip(pairs_of(job), trl_dpo.train_dataset, strict=True):
        assert theirs["prompt_ids"] == list(pair.prompt)
        assert theirs["chosen_ids"] == list(pair.chosen) + newline
        assert theirs["rejected_ids"] == list(pair.rejected) + newline


def test_kto_has_trls_loss_of_the_same_batch(job: DpoRun, base_folder: Path, tmp_path: Path) -> None:
    pairs = pairs_of(job)
    labels = [True, False, True]
    weights = {"desirable_weight": 1.5, "undesirable_weight": 0.5}
    lines = [
        {
            "prompt_ids": list(pair.prompt),
            "completion_ids": list(pair.chosen),
            "KL_completion_ids": list(pairs[(place + 1) % 3].chosen),
            "label": labels[place],
        }
        for place, pair in enumerate(pairs)
    ]
    plain = [
        {"prompt": line["prompt"], "completion": line["chosen"], "label": label}
        for line, label in zip((conversation(number) for number in range(3)), labels, strict=True)
    ]
    trainer = KTOTrainer(
        model=AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32),
        args=KTOConfig(output_dir=str(tmp_path), max_length=None, **weights, **trl_settings()),
        train_dataset=Dataset.from_list(plain),
        processing_class=AutoTokenizer.from_pretrained(base_folder),
        peft_config=lora(job),
    )
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(job.policy))
    theirs = float(trainer._compute_loss(trainer.model, trainer.data_collator(lines), False))

    def log_ratio(prompt: tuple[int, ...], completion: tuple[int, ...]) -> float:
        with torch.no_grad():
            policy = completion_token_logps(job.policy, prompt=prompt, completion=completion).sum()
        with reference_mode(job.policy):
            return float(
                policy - completion_token_logps(job.policy, prompt=prompt, completion=completion).sum()
            )

    z = reference_point(
        torch.tensor(
            [log_ratio(pair.prompt, pairs[(place + 1) % 3].chosen) for place, pair in enumerate(pairs)]
        )
    )
    losses = kto_loss(
        torch.tensor([log_ratio(pair.prompt, pair.chosen) for pair in pairs]),
        desirable=torch.tensor(labels),
        z=z,
        settings=settings("kto", **weights),
    )
    assert float(losses.mean()) == pytest.approx(theirs, rel=1e-4)


# TRL's loss methods ask their trainer for nothing else.
DEVICE = SimpleNamespace(device="cpu")
MEANS = (torch.tensor([-0.3, -2.0, -1.0]).double(), torch.tensor([-1.0, -0.5, -1.0]).double())


def test_simpo_has_trls_loss_with_gamma_as_the_margin_s_target() -> None:
    from trl.experimental.cpo import CPOTrainer

    trainer = SimpleNamespace(
        alpha=0.0, beta=2.0, simpo_gamma=0.7, label_smoothing=0.0, loss_type="simpo", accelerator=DEVICE
    )
    theirs, _, _ = CPOTrainer.cpo_loss(trainer, *MEANS)
    found = simpo_loss(*MEANS, beta=2.0, gamma=0.7)
    assert found.tolist() == pytest.approx(theirs.tolist(), rel=1e-12)
    by_ratio = simpo_loss(*MEANS, beta=2.0, gamma=0.35 * 2.0)
    assert torch.equal(found, by_ratio)


def test_orpo_has_trls_odds_ratio_term_and_its_own_nll() -> None:
    """TRL's NLL covers the prompt too, as a mean over the batch; ours is the chosen completion alone."""
    from trl.experimental.orpo import ORPOTrainer

    trainer = SimpleNamespace(beta=0.3, accelerator=DEVICE)
    theirs, *_ = ORPOTrainer.odds_ratio_loss(trainer, *MEANS)
    found = orpo_loss(*MEANS, lambda_=0.3) - nll_per_token(MEANS[0])
    assert found.tolist() == pytest.approx((-theirs).tolist(), rel=1e-5)
