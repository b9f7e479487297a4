"""config.json: what is accepted, and the sentence that refuses everything else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.core.errors import ConfigError
from training.core.run.config import LossSettings, RunConfig, config_warnings, parse_config, read_config

EXAMPLE: dict[str, Any] = {
    "stage": "dpo",
    "base_model": "PATH_OR_ID",
    "parent_adapter": None,
    "lora": {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"},
    "loss": {"name": "dpo", "beta": 0.1},
    "optimizer": {
        "learning_rate": 5e-5,
        "epochs": 1,
        "pairs_per_step": 8,
        "warmup_ratio": 0.1,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    },
    "max_length": 2048,
    "dtype": "bfloat16",
    "seed": 0,
    "checkpoint_every": 50,
}


def test_the_documented_example_is_all_defaults() -> None:
    assert parse_config(EXAMPLE) == RunConfig(base_model="PATH_OR_ID")
    assert parse_config({"base_model": "PATH_OR_ID"}) == RunConfig(base_model="PATH_OR_ID")


def test_a_configuration_survives_being_written_and_read() -> None:
    config = parse_config(
        EXAMPLE
        | {"loss": {"name": "cdpo", "beta": 0.2, "label_smoothing": 0.1}}
        | {"lora": {"target_modules": ["q_proj", "v_proj"]}, "parent_adapter": "before"}
    )
    assert parse_config(json.loads(json.dumps(config.as_json()))) == config
    assert config.loss == LossSettings(name="cdpo", beta=0.2, label_smoothing=0.1)


REFUSALS: list[tuple[dict[str, Any], str]] = [
    ({"loss": {"name": "dpo", "beta": -0.1}}, "β = -0.1 must be above 0; 0.1 is usual"),
    ({"loss": {"name": "dpo", "beta": 0}}, "β = 0 must be above 0; 0.1 is usual"),
    ({"loss": {"beta": "big"}}, 'β = "big" must be a finite number'),
    (
        {"loss": {"name": "simpo", "beta": 0.1}},
        'loss.name = "simpo" is not available; available are dpo, cdpo, ipo, ipo_sum, hinge',
    ),
    (
        {"loss": {"name": "dpo", "beta": 0.1, "label_smoothing": 0.1}},
        "loss.label_smoothing is not a setting here; the loss dpo uses beta",
    ),
    ({"loss": {"name": "cdpo", "beta": 0.1}}, "loss.label_smoothing is missing"),
    (
        {"loss": {"name": "cdpo", "beta": 0.1, "label_smoothing": 0.5}},
        "loss.label_smoothing = 0.5 must be below 0.5; 0.1 is usual",
    ),
    ({"loss": [0.1]}, "loss = [0.1] must be an object with named settings"),
    ({"stage": "sft"}, 'stage = "sft" is not available; available are dpo, score'),
    ({"lora": {"rank": 8}}, "lora.rank is not a setting here; lora knows"),
    ({"lora": {"r": 0}}, "lora.r = 0 must be at least 1; 16 is usual"),
    ({"lora": {"r": 8.5}}, "lora.r = 8.5 must be a whole number; 16 is usual"),
    ({"lora": {"dropout": 0.1}}, "lora.dropout = 0.1 must be 0"),
    ({"lora": {"target_modules": "q_proj"}}, 'lora.target_modules = "q_proj" must be "all-linear" or a list'),
    ({"lora": {"target_modules": ["lm_head"]}}, "lora.target_modules names lm_head"),
    ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate = 0 must be above 0; 5e-5 is usual"),
    ({"optimizer": {"epochs": True}}, "optimizer.epochs = true must be a whole number; 1 to 3 is usual"),
    ({"optimizer": {"pairs_per_step": 0}}, "optimizer.pairs_per_step = 0 must be at least 1; 8 is usual"),
    ({"optimizer": {"warmup_ratio": 1}}, "optimizer.warmup_ratio = 1 must be below 1; 0.1 is usual"),
    (
        {"optimizer": {"schedule": "step"}},
        'optimizer.schedule = "step" is not available; available are cosine, linear, constant',
    ),
    ({"optimizer": {"max_grad_norm": 0}}, "optimizer.max_grad_norm = 0 must be above 0; 1 is usual"),
    ({"dtype": "float16"}, 'dtype = "float16" is not available; available are bfloat16, float32'),
    ({"base_model": " "}, 'base_model = " " must be a text that is not empty'),
    ({"parent_adapter": 3}, "parent_adapter = 3 must be a text that is not empty"),
    ({"checkpoint_every": 0}, "checkpoint_every = 0 must be at least 1; 50 is usual"),
    ({"gradient_accumulation_steps": 4}, "gradient_accumulation_steps is not a setting here; config knows"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSALS, ids=[sentence for _, sentence in REFUSALS])
def test_a_wrong_setting_is_refused_by_name_value_and_remedy(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(EXAMPLE | changes)
    assert str(refused.value).startswith(sentence)


def test_a_base_model_is_required() -> None:
    with pytest.raises(ConfigError, match="base_model is missing"):
        parse_config({})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "config.json is not valid JSON: .* in line 1, column 2"),
        ("[1]", r"config = \[1\] must be an object"),
        ('{"seed": NaN}', "config.json holds NaN"),
        (b"\xff", "config.json is not UTF-8"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match=sentence):
        read_config(path)


def test_a_missing_file_says_what_a_run_directory_holds(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; a run directory holds config.json"):
        read_config(tmp_path / "config.json")


def test_a_small_beta_is_warned_of_and_a_usual_one_is_not() -> None:
    small = parse_config(EXAMPLE | {"loss": {"beta": 0.01}})
    assert config_warnings(small) == ("β = 0.01 is below 0.05: the policy may collapse; 0.1 is usual",)
    assert config_warnings(parse_config(EXAMPLE)) == ()


def test_the_web_side_of_the_trainer_imports_nothing_heavy() -> None:
    loaded = _modules_after("import training.core.run.config, training.core.run.directory")
    assert loaded.isdisjoint({"torch", "transformers", "peft", "safetensors", "numpy", "django"})


def test_the_trainer_imports_no_django() -> None:
    loaded = _modules_after(
        "import training.core.__main__, training.core.stages.dpo, training.core.stages.score"
    )
    assert "torch" in loaded
    assert loaded.isdisjoint({"django", "annotate", "dpo_studio", "django_rq", "rq"})


def _modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(output.split())
