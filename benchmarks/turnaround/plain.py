"""The plain script: `python -m benchmarks.turnaround.plain JOB.json` trains with TRL and restarts vLLM.

It is what people write who have labels in a file: train, merge, start a server on the new model, sample.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.serving.command import installed_device, server_environment
from training.serving.manager import free_port

COLUMNS = ("prompt", "chosen", "rejected")
START_SECONDS = 600
# Ways of training that change no result. Which is the fastest depends on the lengths; for the demo's it is
# the first, by processor time on one thread.
SETTINGS: dict[str, dict[str, Any]] = {
    "one pair a pass": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    "two pairs a pass": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    "four pairs a pass": {"per_device_train_batch_size": 4},
    "four pairs a pass, reference computed before": {
        "per_device_train_batch_size": 4,
        "precompute_ref_log_probs": True,
    },
    "one pair a pass, reference computed before": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "precompute_ref_log_probs": True,
    },
}


def main() -> None:
    """Do what the job says and print when each stage ended, in seconds since the parent started the clock."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    marks = {}
    model = trained(job)
    marks["trained"] = time.time() - job["began"]
    with server(model, log=Path(job["folder"]) / "vllm.log") as url:
        marks["serving"] = time.time() - job["began"]
        first_pair(url, model=model, job=job)
        marks["first_pair"] = time.time() - job["began"]
    print(json.dumps({"marks": marks, "pairs": len(_examples(job))}))


def trained(job: dict[str, Any]) -> Path:
    """Train a fresh adapter on every example and return the folder of the merged model."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.bfloat16),
        args=_settings(job),
        train_dataset=Dataset.from_list([{name: row[name] for name in COLUMNS} for row in _examples(job)]),
        processing_class=tokenizer,
        peft_config=_lora(job),
    )
    trainer.train()
    merged = Path(job["folder"]) / "merged"
    trainer.model.merge_and_unload().save_pretrained(merged)
    tokenizer.save_pretrained(merged)
    return merged


def _settings(job: dict[str, Any]) -> Any:
    from trl import DPOConfig

    optimizer = job["config"]["optimizer"]
    return DPOConfig(
        output_dir=job["folder"],
        beta=job["config"]["loss"]["beta"],
        learning_rate=optimizer["learning_rate"],
        lr_scheduler_type=optimizer["schedule"],
        warmup_steps=optimizer["warmup_ratio"],
        num_train_epochs=optimizer["epochs"],
        max_grad_norm=optimizer["max_grad_norm"],
        weight_decay=optimizer["weight_decay"],
        max_length=job["config"]["max_length"],
        seed=job["config"]["seed"],
        gradient_checkpointing=False,
        bf16=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **SETTINGS[job["settings"]],
    )


def _lora(job: dict[str, Any]) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=job["config"]["lora"]["r"],
        lora_alpha=int(job["config"]["lora"]["alpha"]),
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


@contextmanager
def server(model: Path, *, log: Path) -> Iterator[str]:
    """Run vLLM on the merged model, without LoRA and without compiling, which starts and answers fastest."""
    port = free_port("127.0.0.1")
    command = [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
        *("--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--enforce-eager"),
        *("--generation-config", "vllm", "--max-num-seqs", "64", "--uvicorn-log-level", "warning"),
    ]
    environment = dict(server_environment(os.environ, device=installed_device()))
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(url, process=process, log=log)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def first_pair(url: str, *, model: Path, job: dict[str, Any]) -> list[str]:
    """Ask for the two responses of the first prompt alone, so that nothing else delays them."""
    body = {"model": str(model), "messages": job["prompt"], "n": 2, **job["sampling"]}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
        return [choice["message"]["content"] for choice in json.load(answer)["choices"]]


def _wait_for(url: str, *, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"vLLM did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


def _examples(job: dict[str, Any]) -> list[dict[str, Any]]:
    lines = Path(job["examples"]).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


if __name__ == "__main__":
    main()
