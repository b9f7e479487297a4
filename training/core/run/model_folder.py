"""A whole model as a folder that transformers, vLLM and this trainer load as a base: safetensors, no code."""

import shutil
from pathlib import Path

from torch import nn

from training.core.model.loading import BaseModel
from training.core.run.directory import RunDirectory
from training.core.run.files import new_folder, write_text

# What belongs to the weights of the base and not to its tokenizer or its generation settings.
OF_THE_WEIGHTS = {"config.json", "model.safetensors.index.json", "manifest.json"}
TOKENIZER_FILES = ("*.json", "*.jinja", "*.txt", "tokenizer.model")


def write_model(run: RunDirectory, *, model: nn.Module, base: BaseModel, card: str) -> None:
    """Write model/ as a whole: weights in the model's dtype, settings, the base's tokenizer, card.

    `model` is a transformers model without adapter layers (merge them first).
    """
    with new_folder(run.model) as folder:
        model.save_pretrained(folder)  # type: ignore[operator]
        for file in _beside_the_weights(base.folder):
            shutil.copyfile(file, folder / file.name)
        write_text(folder / "README.md", text=card)


def _beside_the_weights(folder: Path) -> list[Path]:
    """The files of a base folder that say how its text is tokenised and generated."""
    found = {file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)}
    return sorted(file for file in found if file.name not in OF_THE_WEIGHTS)
