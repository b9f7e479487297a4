"""Loading base model, tokenizer and adapter. The reference is always the base with the adapter off."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from training.core.data.encode import EncodingRules, Tokenizer
from training.core.errors import TrainingError
from training.core.model.lean import make_lean
from training.core.model.rotary import make_rotary_stateless
from training.core.model.steady import make_steady
from training.core.run.config import RunConfig
from training.core.run.files import damaged_file, sha256_of_file, sha256_of_model

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
# What a base model needs from the hub: weights as safetensors, settings and tokenizer; nothing that runs.
HUB_FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "*.txt")


@dataclass(frozen=True)
class BaseModel:
    """A folder with a base model, checked to hold safetensors, and its identity."""

    folder: Path
    sha256: str


def find_base(config: RunConfig) -> BaseModel:
    """The base model's folder (fetched from the Hugging Face hub when it is an id there) and its sha256.

    Raises TrainingError when it is not found, has no safetensors or is not the one in config.json.
    """
    folder = _base_folder(config.base_model)
    if not (folder / "config.json").is_file():
        raise TrainingError(
            f"base_model = {config.base_model} has no config.json; give a model folder or hub id"
        )
    sha256 = sha256_of_model(folder)
    if config.base_sha256 not in (None, sha256):
        raise TrainingError(
            f"base_model = {config.base_model} has sha256 {sha256[:12]}…, config.json expects "
            f"{str(config.base_sha256)[:12]}…; the base was changed since the run was frozen"
        )
    return BaseModel(folder=folder, sha256=sha256)


def load_tokenizer(base: BaseModel) -> Tokenizer:
    """The base model's own tokenizer."""
    try:
        tokenizer: Tokenizer = AutoTokenizer.from_pretrained(base.folder, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the tokenizer of {base.folder} cannot be loaded: {_first_line(error)}"
        ) from error
    return tokenizer


def encoding_rules(config: RunConfig, *, base: BaseModel, tokenizer: Tokenizer) -> EncodingRules:
    """Limits and end tokens for encoding: the tokenizer's end token and those of the generation settings."""
    settings = AutoConfig.from_pretrained(base.folder, trust_remote_code=False).get_text_config()
    end_tokens = {tokenizer.eos_token_id}
    generation = base.folder / "generation_config.json"
    if generation.is_file():
        stated = json.loads(generation.read_text(encoding="utf-8")).get("eos_token_id")
        end_tokens.update(stated if isinstance(stated, list) else [stated])
    return EncodingRules(
        max_length=config.max_length,
        vocabulary=settings.vocab_size,
        end_tokens=frozenset(token for token in end_tokens if token is not None),
        loss=config.loss,
        overlong=config.overlong,
    )


def load_base(config: RunConfig, *, base: BaseModel) -> nn.Module:
    """The frozen base model in the configured dtype, dropout off, on the accelerator when there is one.

    Raises TrainingError when the folder is no causal language model that loads from safetensors alone.
    """
    transformers_logging.disable_progress_bar()
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            base.folder,
            dtype=getattr(torch, config.dtype),
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation=_attention(base),
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(f"base model {base.folder} cannot be loaded: {_first_line(error)}") from error
    model.requires_grad_(False)
    make_rotary_stateless(model)
    make_steady(model)
    make_lean(model)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def load_policy(config: RunConfig, *, model: nn.Module, trainable: bool) -> nn.Module:
    """Base plus adapter: the parent adapter if there is one, else a fresh one that changes nothing yet.

    LoRA weights are float32 whatever the base's dtype (in bfloat16 a step of 5e-5 would round away).
    """
    if config.parent_adapter is not None:
        parent = checked_parent(config)
        policy: nn.Module = PeftModel.from_pretrained(model, parent, is_trainable=trainable)
    else:
        torch.manual_seed(config.seed)
        policy = get_peft_model(model, _lora_config(config))  # type: ignore[no-untyped-call,unused-ignore]
    policy.eval()
    make_lean(policy)
    if trainable and not trainable_parameters(policy):
        raise TrainingError("the adapter has no trainable weights; check lora.target_modules")
    return policy


def checked_parent(config: RunConfig) -> Path:
    """The parent adapter's folder; raises TrainingError unless it is whole and of the stated shape."""
    parent = Path(str(config.parent_adapter))
    for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        if not (parent / name).is_file():
            raise TrainingError(f"parent_adapter = {parent} has no {name}; give a folder that a run wrote")
    if (parent / "manifest.json").exists() and (name_of_damaged := damaged_file(parent)):
        raise TrainingError(
            f"parent_adapter = {parent}: {name_of_damaged} is not the file that was written; restore it"
        )
    stated = json.loads((parent / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    for key, wanted in (("r", config.lora.r), ("lora_alpha", config.lora.alpha)):
        if config.stage != "score" and stated.get(key) != wanted:
            raise TrainingError(
                f"lora.{key.removeprefix('lora_')} = {wanted:g}, the parent adapter has {stated.get(key)}; "
                "continue with the parent's value or start without a parent"
            )
    return parent


def parent_sha256(config: RunConfig) -> str | None:
    """The sha256 of the parent adapter's weights, None without a parent."""
    if config.parent_adapter is None:
        return None
    return sha256_of_file(Path(config.parent_adapter) / ADAPTER_WEIGHTS)


def trainable_parameters(policy: nn.Module) -> dict[str, nn.Parameter]:
    """The weights that training changes, by name, in the model's order."""
    return {name: weight for name, weight in policy.named_parameters() if weight.requires_grad}


@contextmanager
def reference_mode(policy: nn.Module) -> Iterator[None]:
    """Inside, the model is the reference: the adapter is off and no gradient is recorded."""
    disabled: Any = policy.disable_adapter() if isinstance(policy, PeftModel) else _nothing()
    with disabled, torch.no_grad():
        yield


def causal_model(policy: nn.Module) -> nn.Module:
    """The model whose forward pass gives logits: the base, LoRA layers in place if there is an adapter."""
    return policy.get_base_model() if isinstance(policy, PeftModel) else policy


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _attention(base: BaseModel) -> str | None:
    """PyTorch's attention; eager where scores are capped, which that leaves out; None: the model's own."""
    settings = AutoConfig.from_pretrained(base.folder, trust_remote_code=False)
    if getattr(settings.get_text_config(), "attn_logit_softcapping", None):
        return "eager"
    known = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(settings), None)
    return "sdpa" if getattr(known, "_supports_sdpa", False) else None


def _lora_config(config: RunConfig) -> Any:
    targets = config.lora.target_modules
    return LoraConfig(
        r=config.lora.r,
        lora_alpha=config.lora.alpha,
        lora_dropout=0.0,
        target_modules=targets if isinstance(targets, str) else list(targets),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _base_folder(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise TrainingError(f"base_model = {name} is not a folder; give a model folder or a Hugging Face id")
    try:
        return Path(snapshot_download(name, allow_patterns=list(HUB_FILES)))
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"base_model = {name} is neither a folder here nor to be had from the Hugging Face hub "
            f"({_first_line(error)})"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
