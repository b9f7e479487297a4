"""TRL's side: one training run in a process of its own, `python -m benchmarks.train.peer JOB.json`."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

LORA = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")


class Times(TrainerCallback):  # type: ignore[misc,unused-ignore]
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_begin(self, *_arguments: Any, **_named: Any) -> None:
        self.ends.append(time.time())

    def on_step_end(self, *_arguments: Any, **_named: Any) -> None:
        self.ends.append(time.time())


class InOrder(DPOTrainer):  # type: ignore[misc,unused-ignore]
    """The token ids as they are, in the order given, so that both sides take the same steps."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def _prepare_dataset(self, dataset: Any, *_arguments: Any, **_named: Any) -> Any:
        return dataset


def main() -> None:
    """Train as the job says and print what came of it."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(_trained(job)))


def _trained(job: dict[str, Any]) -> dict[str, Any]:
    times = Times()
    began = time.time()
    trainer = _trainer(job, times=times)
    _start_afresh(trainer, model=job["model"])
    prepared = time.time() - began
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {
        "losses": [entry["loss"] for entry in logged],
        "margins": [entry.get("rewards/margins") for entry in logged],
        "step_seconds": [after - before for before, after in zip(times.ends, times.ends[1:], strict=False)],
        "prepared_seconds": prepared,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _trainer(job: dict[str, Any], *, times: Times) -> Any:
    columns = {
        "prompt_ids": [pair["prompt"] for pair in job["pairs"]],
        "chosen_ids": [pair["chosen"] for pair in job["pairs"]],
        "rejected_ids": [pair["rejected"] for pair in job["pairs"]],
    }
    return InOrder(
        model=_base(job["model"]),
        args=_settings(job),
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=LORA,
        callbacks=[times],
    )


def _settings(job: dict[str, Any]) -> Any:
    settings = {
        "per_device_train_batch_size": 4,
        "gradient_checkpointing": False,
        "bf16": False,
        **job["settings"],
    }
    return DPOConfig(
        output_dir=job["folder"],
        beta=0.1,
        learning_rate=job["learning_rate"],
        lr_scheduler_type="constant",
        warmup_steps=0,
        num_train_epochs=1,
        max_grad_norm=1.0,
        weight_decay=0.0,
        max_length=4096,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        seed=0,
        **settings,
    )


def _start_afresh(trainer: Any, *, model: str) -> None:
    """Give the trainer the weights of a fresh adapter drawn with our seed."""
    torch.manual_seed(0)
    fresh = get_peft_model(_base(model), LORA)
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(fresh))


def _base(model: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(model, dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
