"""Whether a base model can be a study's SFT reference: decided without torch, before anything is written."""

from __future__ import annotations

import json
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
LARGEST_HEADER = 100 * 1024 * 1024
HUB_SECONDS = 8


class BaseModelError(ValueError):
    """The base model cannot be used; the message names it and the remedy."""


@dataclass(frozen=True)
class BaseModel:
    """A base model that passed the checks; `parameters` is None where the hub does not say."""

    path_or_id: str
    architecture: str
    parameters: int | None


def check_base_model(text: str) -> BaseModel:
    """Return what `text` (a local folder or a Hugging Face id) names, or raise BaseModelError."""
    text = text.strip()
    if not text:
        raise BaseModelError(
            "The base model is empty; give a local folder or a Hugging Face id such as owner/name."
        )
    # os.path answers no where pathlib raises: a name too long, a folder closed to us, an unknown ~user.
    folder = Path(os.path.expanduser(text))
    if os.path.isdir(folder):
        return _check_folder(folder.resolve(), name=text)
    if HUB_ID.fullmatch(text) and ".." not in text:
        return _check_hub(text)
    if os.path.isfile(folder):
        raise BaseModelError(f"The base model {text} is a file; give the folder that holds config.json.")
    raise BaseModelError(
        f"The base model {text} does not exist on this machine and is not a Hugging Face id (owner/name); "
        "check the path."
    )


def _check_folder(folder: Path, *, name: str) -> BaseModel:
    architecture = _architecture(folder, name=name)
    parameters = sum(_count_parameters(path, name=name) for path in _weight_files(folder, name=name))
    _check_chat_template(folder, name=name)
    return BaseModel(path_or_id=str(folder), architecture=architecture, parameters=parameters)


def _architecture(folder: Path, *, name: str) -> str:
    if not os.path.isfile(folder / "config.json"):
        if os.path.isfile(folder / "adapter_config.json"):
            raise BaseModelError(
                f"{name} is a LoRA adapter; merge it into its base model and give the merged folder."
            )
        raise BaseModelError(f"{name} has no config.json; give the folder of a transformers model.")
    architectures = _read_json(folder / "config.json", name=name).get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise BaseModelError(
            f"{name}/config.json names no architectures; save the model with save_pretrained."
        )
    return str(architectures[0])


def _read_json(path: Path, *, name: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"{name}/{path.name} cannot be read ({error}); download or save the model again."
        ) from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{name}/{path.name} is not a JSON object; download or save the model again.")
    return value


def _weight_files(folder: Path, *, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = sorted(set(_read_json(index, name=name).get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (folder / Path(shard).name).is_file()]
        if missing or not shards:
            lacking = missing[0] if missing else "every shard"
            raise BaseModelError(f"{name} lacks {lacking}, which its index names; download the model again.")
        return [folder / Path(shard).name for shard in shards]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    found = sorted(
        path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.gguf") for path in folder.glob(pattern)
    )
    instead = f" (it has {found[0]})" if found else ""
    raise BaseModelError(
        f"{name} has no safetensors weights{instead}; only safetensors are loaded. "
        "Convert it: load it with transformers and save_pretrained(…)."
    )


def _count_parameters(path: Path, *, name: str) -> int:
    """Return the number of weights in the file's header, after checking that the file holds them all."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size, LARGEST_HEADER):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        tensors = [value for key, value in header.items() if key != "__metadata__"]
        if 8 + length + max((tensor["data_offsets"][1] for tensor in tensors), default=0) > size:
            raise ValueError("it ends too early")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise BaseModelError(
            f"{name}/{path.name} is damaged ({error}); download or save the model again."
        ) from error
    return sum(_product(tensor["shape"]) for tensor in tensors)


def _product(shape: list[int]) -> int:
    result = 1
    for extent in shape:
        result *= extent
    return result


def _check_chat_template(folder: Path, *, name: str) -> None:
    if not any((folder / file).is_file() for file in TOKENIZER_FILES):
        raise BaseModelError(
            f"{name} has no tokenizer ({', '.join(TOKENIZER_FILES)}); save the model's tokenizer there."
        )
    if any((folder / file).is_file() for file in ("chat_template.jinja", "chat_template.json")):
        return
    config = folder / "tokenizer_config.json"
    if not (config.is_file() and _read_json(config, name=name).get("chat_template")):
        raise BaseModelError(
            f"{name} has no chat template; use an instruction-tuned model, or add chat_template.jinja."
        )


def _check_hub(hub_id: str) -> BaseModel:
    if not is_downloaded(hub_id):
        return _ask_hub(hub_id)
    from huggingface_hub import snapshot_download

    checked = _check_folder(Path(snapshot_download(hub_id, local_files_only=True)), name=hub_id)
    return BaseModel(path_or_id=hub_id, architecture=checked.architecture, parameters=checked.parameters)


def _ask_hub(hub_id: str) -> BaseModel:
    """Check a model by what the hub says of it, without downloading it."""
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        info = HfApi().model_info(hub_id, timeout=HUB_SECONDS)
    except GatedRepoError as error:
        raise BaseModelError(
            f"{hub_id} is gated; accept its licence on the hub and log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise BaseModelError(
            f"{hub_id} is neither a folder here nor a public model on the hub; check its name."
        ) from error
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        raise BaseModelError(
            f"{hub_id} is not on this machine and the hub cannot be reached ({type(error).__name__}); "
            "download the model on a connected machine and give its folder, or check the network."
        ) from error
    return _judge_hub_info(hub_id, info=info)


def _judge_hub_info(hub_id: str, *, info: Any) -> BaseModel:
    files = {sibling.rfilename for sibling in info.siblings or []}
    config = info.config or {}
    if not any(file.endswith(".safetensors") and "/" not in file for file in files):
        raise BaseModelError(f"{hub_id} has no safetensors weights on the hub; only safetensors are loaded.")
    if not config.get("architectures"):
        raise BaseModelError(f"{hub_id} names no architectures; it is not a transformers model.")
    has_template = (config.get("tokenizer_config") or {}).get("chat_template")
    if not has_template and not files & {"chat_template.jinja", "chat_template.json"}:
        raise BaseModelError(f"{hub_id} has no chat template; use an instruction-tuned model.")
    total = info.safetensors.total if info.safetensors else None
    return BaseModel(path_or_id=hub_id, architecture=str(config["architectures"][0]), parameters=total)


def is_downloaded(hub_id: str) -> bool:
    """Return whether the whole model is in this machine's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = snapshot_download(hub_id, local_files_only=True)
    except (LocalEntryNotFoundError, ValueError):
        return False
    return any(Path(folder).glob("*.safetensors"))


def download_model(hub_id: str) -> str:
    """Download what serving and training need of a model; returns its folder. Raises OSError, ValueError."""
    from huggingface_hub import snapshot_download

    return snapshot_download(
        hub_id, allow_patterns=["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
    )
