"""TRL's side: one training run in a process of its own, `python -m benchmarks.train.peer JOB.json`."""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    """Train as the job says and print what came of it."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(_trained(job)))


def _trained(job: dict[str, Any]) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from torch.utils.data import SequentialSampler
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    def base() -> Any:
        return AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16)

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

    lora = LoraConfig(
        r=16, lora_alpha=32, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    times = Times()
    settings = {"gradient_checkpointing": False, "bf16": False, **job["settings"]}
    columns = {
        "prompt_ids": [pair["prompt"] for pair in job["pairs"]],
        "chosen_ids": [pair["chosen"] for pair in job["pairs"]],
        "rejected_ids": [pair["rejected"] for pair in job["pairs"]],
    }
    began = time.time()
    trainer = InOrder(
        model=base(),
        args=DPOConfig(
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
            **{"per_device_train_batch_size": 4, **settings},
        ),
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        peft_config=lora,
        callbacks=[times],
    )
    torch.manual_seed(0)
    fresh = get_peft_model(base(), lora)
    set_peft_model_state_dict(trainer.model, get_peft_model_state_dict(fresh))
    del fresh
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


if __name__ == "__main__":
    main()
