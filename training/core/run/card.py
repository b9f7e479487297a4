"""The model card of what a run trained: what from, on what, with which settings, and how it came out."""

from collections.abc import Mapping
from typing import Any

from training.core.run.config import RunConfig
from training.core.run.records import RunResult

ADAPTER_USE = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{base_model}")
policy = PeftModel.from_pretrained(base, "PATH_OF_THIS_FOLDER")
```

```
python -m vllm.entrypoints.openai.api_server --model {base_model} --enable-lora --max-lora-rank {rank} \\
  --lora-modules policy=PATH_OF_THIS_FOLDER
```

`probe.json` has token ids and the log-probs that this adapter (and the base without it) gives them, to check
a server with."""
MODEL_USE = """\
```python
from transformers import AutoModelForCausalLM, AutoTokenizer

policy = AutoModelForCausalLM.from_pretrained("PATH_OF_THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("PATH_OF_THIS_FOLDER")
```

`python -m vllm.entrypoints.openai.api_server --model PATH_OF_THIS_FOLDER` serves it. It can be the base
model of further training."""


def preference_card(config: RunConfig, *, result: RunResult, lately: Mapping[str, float]) -> str:
    """README.md of adapter/ or model/ after training on preferences; `lately` is of its last epoch."""
    lora = config.trainable == "lora"
    use = ADAPTER_USE.format(base_model=config.base_model, rank=config.lora.r) if lora else MODEL_USE
    return f"""---
base_model: {config.base_model}
library_name: {"peft" if lora else "transformers"}
tags: [{"dpo, lora" if lora else "dpo"}]
---
# {"LoRA adapter" if lora else "Model"} trained on preferences ({config.loss.name})

{_table(_rows(config, result=result, lately=lately))}
The figures of training are of the implicit reward; they are no measure of quality. Judge the model by what
people prefer on prompts that it has not seen.
{_warnings(result)}
## Loading it

{use}

`manifest.json` has the sha256 of each file.
"""


def _rows(config: RunConfig, *, result: RunResult, lately: Mapping[str, float]) -> dict[str, str]:
    optimizer, loss = config.optimizer, config.loss.as_json()
    settings = ", ".join(f"{key} {value:g}" for key, value in loss.items() if key != "name")
    rows = {
        "Base model, the reference": f"{config.base_model} (safetensors sha256 {result.base_sha256[:12]})",
        "Start": _start(config, result=result),
        "Loss": f"{config.loss.name} ({settings})" if settings else config.loss.name,
        "Trained": _trained(config),
        "Data": _data(config, result=result),
        "Epochs": _epochs(config, result=result),
        "Learning rate": _rate(config),
        "Weight decay, clipping": f"{optimizer.weight_decay:g}, {optimizer.max_grad_norm:g}",
        "Longest sequence": f"{config.max_length} tokens",
        "Precision, seed": f"{config.dtype} (trained weights in float32), {config.seed}",
        "In its last epoch, before each step": _figures(lately),
        "On held-out data": _heldout(result.heldout),
        "Versions": _versions(result),
        "config.json": f"sha256 {result.config_sha256[:12]}",
    }
    return {name: value for name, value in rows.items() if value}


def demonstration_card(config: RunConfig, *, result: RunResult) -> str:
    """README.md of model/ after stage sft."""
    optimizer = config.optimizer
    rows = {
        "Base model": f"{config.base_model} (safetensors sha256 {result.base_sha256[:12]})",
        "Loss": "negative log-likelihood of the completions, mean per token",
        "Trained": _trained(config) + ("" if config.trainable == "full" else ", merged in float32"),
        "Data": _data(config, result=result),
        "Epochs": _epochs(config, result=result),
        "Learning rate": _rate(config),
        "Weight decay, clipping": f"{optimizer.weight_decay:g}, {optimizer.max_grad_norm:g}",
        "Longest sequence": f"{config.max_length} tokens",
        "Precision, seed": f"{config.dtype} (trained weights in float32), {config.seed}",
        **_losses(result),
        "On held-out data": _heldout(result.heldout),
        "Versions": _versions(result),
        "config.json": f"sha256 {result.config_sha256[:12]}",
    }
    rows = {name: value for name, value in rows.items() if value}
    return f"""---
base_model: {config.base_model}
library_name: transformers
tags: [sft]
---
# Model trained on demonstrations

{_table(rows)}
It can be the base model, and so the reference, of training on preferences.
{_warnings(result)}
## Loading it

{MODEL_USE}

`manifest.json` has the sha256 of each file.
"""


def _losses(result: RunResult) -> dict[str, str]:
    """The loss at both ends, as means over some steps."""
    steps = result.loss_steps
    name = (
        "Loss of the first and last step" if steps == 1 else f"Loss, mean of the first and last {steps} steps"
    )
    return {name: f"{result.loss_start:.4f}, {result.loss_end:.4f}"}


def _data(config: RunConfig, *, result: RunResult) -> str:
    given = f"{result.used} of {result.examples} examples"
    heldout = (result.heldout or {}).get("eval_examples", 0)
    if heldout and config.evaluation.share > 0 and not result.heldout_sha256:
        given += f", {heldout} of them held out"
    given += f" (examples.jsonl sha256 {result.examples_sha256[:12]})"
    if result.heldout_sha256:
        given += f"; {heldout} others held out (heldout.jsonl sha256 {result.heldout_sha256[:12]})"
    return given


def _epochs(config: RunConfig, *, result: RunResult) -> str:
    optimizer = config.optimizer
    said = f"{optimizer.epochs}, in {result.steps} steps of {optimizer.pairs_per_step}"
    if result.stopped_early:
        planned = f"{result.planned_steps} steps of {optimizer.pairs_per_step}"
        said = f"{optimizer.epochs} planned; stopped after {result.steps} of {planned}"
    kept = result.kept_step
    return said if kept in (None, result.steps) else f"{said}; weights of step {kept}"


def _rate(config: RunConfig) -> str:
    optimizer = config.optimizer
    return f"{optimizer.learning_rate:g}, {optimizer.schedule}, warm-up {optimizer.warmup_ratio:g}"


def _versions(result: RunResult) -> str:
    return ", ".join(f"{name} {version}" for name, version in result.versions.items())


def _start(config: RunConfig, *, result: RunResult) -> str:
    if config.parent_adapter is None:
        return "a fresh adapter" if config.trainable == "lora" else "the base model itself"
    return f"continues the adapter {config.parent_adapter} (sha256 {str(result.parent_sha256)[:12]})"


def _trained(config: RunConfig) -> str:
    if config.trainable == "full":
        return "every weight"
    targets = config.lora.target_modules
    shown = targets if isinstance(targets, str) else ", ".join(targets)
    return f"LoRA, r {config.lora.r}, alpha {config.lora.alpha:g}, target modules {shown}"


def _figures(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def _heldout(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return ""
    accuracy = values.get("eval_rewards/accuracies")
    shown = "" if accuracy is None else f", accuracy {accuracy:.3f}"
    if "eval_perplexity" in values:
        shown = f", perplexity {values['eval_perplexity']:.3g}"
    return (
        f"loss {values['eval_loss']:.4f}{shown} on {values['eval_examples']} examples, step {values['step']}"
    )


def _warnings(result: RunResult) -> str:
    if not result.warnings:
        return ""
    return "\nWhat the run warned of:\n\n" + "".join(f"- {warning}\n" for warning in result.warnings)


def _table(rows: Mapping[str, str]) -> str:
    lines = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    return f"| | |\n|---|---|\n{lines}"
