"""A folder that looks like a base model to whoever does not load it."""

import json
import struct
from pathlib import Path

import pytest


def write_safetensors(path: Path, *, shape: tuple[int, ...] = (2, 3), missing_bytes: int = 0) -> None:
    size = 4
    for extent in shape:
        size *= extent
    header = json.dumps({"weight": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(size - missing_bytes))


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    write_safetensors(folder / "model.safetensors")
    return folder
