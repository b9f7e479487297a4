"""A base model is refused with a sentence before a study hangs on it."""

import json
import struct
from pathlib import Path

import pytest

from tests.support.model_folder import write_safetensors
from training.services.base_models import BaseModelError, check_base_model


def refusal(text: str | Path) -> str:
    with pytest.raises(BaseModelError) as caught:
        check_base_model(str(text))
    return str(caught.value)


def test_local_folder_is_accepted_by_its_absolute_path(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model_folder.parent)
    checked = check_base_model("  ./model ")
    assert (checked.path_or_id, checked.architecture, checked.parameters) == (
        str(model_folder),
        "LlamaForCausalLM",
        6,
    )


def test_sharded_weights_are_counted(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()
    for number in (1, 2):
        write_safetensors(model_folder / f"part-{number}.safetensors", shape=(5, number))
    index = {"weight_map": {"a": "part-1.safetensors", "b": "part-2.safetensors"}}
    (model_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert check_base_model(str(model_folder)).parameters == 15
    (model_folder / "part-2.safetensors").unlink()
    assert "lacks part-2.safetensors" in refusal(model_folder)


def test_chat_template_may_be_in_the_tokenizer_config(model_folder: Path) -> None:
    (model_folder / "chat_template.jinja").unlink()
    assert "has no chat template" in refusal(model_folder)
    (model_folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    assert check_base_model(str(model_folder)).architecture == "LlamaForCausalLM"


def test_empty_text_is_refused() -> None:
    assert "is empty" in refusal("  ")


def test_path_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path / "nowhere")
    assert f"{tmp_path}/nowhere does not exist on this machine" in said
    assert "check the path" in said


@pytest.mark.parametrize("text", ["/" + "a" * 400, "~no-such-user/model"])
def test_path_that_cannot_be_looked_at_is_refused(text: str) -> None:
    assert "does not exist on this machine" in refusal(text)


def test_file_instead_of_a_folder_is_refused(model_folder: Path) -> None:
    assert "give the folder" in refusal(model_folder / "config.json")


def test_folder_without_config_is_refused(tmp_path: Path) -> None:
    assert "has no config.json" in refusal(tmp_path)


def test_adapter_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is a LoRA adapter; merge it" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"), [("{", "cannot be read"), ("[]", "not a JSON object"), ("{}", "names no architectures")]
)
def test_broken_config_is_refused(model_folder: Path, text: str, said: str) -> None:
    (model_folder / "config.json").write_text(text)
    assert said in refusal(model_folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.gguf", "consolidated.pth"])
def test_weights_that_are_not_safetensors_are_refused_by_name(model_folder: Path, name: str) -> None:
    (model_folder / "model.safetensors").unlink()
    (model_folder / name).write_bytes(b"x")
    said = refusal(model_folder)
    assert f"it has {name}" in said
    assert "only safetensors are loaded" in said
    assert "save_pretrained" in said


def test_truncated_weights_are_refused(model_folder: Path) -> None:
    write_safetensors(model_folder / "model.safetensors", missing_bytes=1)
    assert "is damaged (it ends too early)" in refusal(model_folder)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, struct.pack("<Q", 2) + b"[]", b"version https://git-lfs"]
)
def test_file_that_is_no_safetensors_is_refused(model_folder: Path, content: bytes) -> None:
    (model_folder / "model.safetensors").write_bytes(content)
    assert "is damaged" in refusal(model_folder)


def test_folder_without_tokenizer_is_refused(model_folder: Path) -> None:
    (model_folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(model_folder)


@pytest.mark.parametrize("text", ["one", "a/b/c", "owner/../x", "owner/na me", "https://hub/x/y"])
def test_text_that_is_neither_path_nor_hub_id_is_refused(text: str) -> None:
    assert "does not exist on this machine and is not a Hugging Face id" in refusal(text)


def test_hub_id_that_cannot_be_asked_for_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said = refusal("nobody-here/no-such-model")
    assert "the hub cannot be reached" in said
    assert "give its folder" in said
