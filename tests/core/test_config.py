"""config.json: what is accepted, and the sentence that refuses everything else."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from training.core.errors import ConfigError
from training.core.run.config import (
    LOSS_KEYS,
    LossSettings,
    RunConfig,
    config_warnings,
    parse_config,
    read_config,
)

EXAMPLE: dict[str, Any] = {
    "stage": "dpo",
    "base_model": "PATH_OR_ID",
    "parent_adapter": None,
    "trainable": "lora",
    "lora": {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"},
    "loss": {"name": "dpo", "beta": 0.1},
    "optimizer": {
        "learning_rate": 5e-5,
        "epochs": 1,
        "pairs_per_step": 8,
        "pairs_per_pass": None,
        "warmup_ratio": 0.1,
        "schedule": "cosine",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
    },
    "evaluation": {"share": 0.0, "every": None, "patience": None, "keep_best": False},
    "gradient_checkpointing": False,
    "max_length": 2048,
    "overlong": "leave_out",
    "dtype": "bfloat16",
    "seed": 0,
    "checkpoint_every": 50,
    "ledger": None,
    "chunk_tokens": None,
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
        {"loss": {"name": "slic", "beta": 0.1}},
        'loss.name = "slic" is not available; available are dpo, cdpo, robust, ipo, ipo_sum, hinge, dpo_norm',
    ),
    (
        {"loss": {"name": "dpo", "beta": 0.1, "label_smoothing": 0.1}},
        "loss.label_smoothing is not a setting here; the loss dpo uses beta, nll_alpha",
    ),
    ({"loss": {"name": "cdpo", "beta": 0.1}}, "loss.label_smoothing is missing"),
    (
        {"loss": {"name": "cdpo", "beta": 0.1, "label_smoothing": 0.5}},
        "loss.label_smoothing = 0.5 must be below 0.5; 0.1 is usual",
    ),
    ({"loss": [0.1]}, "loss = [0.1] must be an object with named settings"),
    ({"loss": {"name": "orpo", "beta": 0.1}}, "loss.beta is not a setting here; the loss orpo uses lambda"),
    ({"loss": {"name": "orpo", "nll_alpha": 1}}, "loss.nll_alpha is not a setting here; the loss orpo uses"),
    ({"loss": {"name": "orpo", "lambda": 0}}, "loss.lambda = 0 must be above 0; 0.1 is usual"),
    ({"loss": {"name": "dpo", "gamma": 1}}, "loss.gamma is not a setting here; the loss dpo uses beta"),
    ({"loss": {"name": "simpo", "gamma": -1}}, "loss.gamma = -1 must be at least 0; half of β is usual"),
    ({"loss": {"name": "simpo", "beta": 0}}, "β = 0 must be above 0; 2 is usual"),
    ({"loss": {"name": "rao_kupper", "nu": 0.5}}, "loss.nu = 0.5 must be at least 1; 3 is usual"),
    ({"loss": {"name": "davidson", "nu": -1}}, "loss.nu = -1 must be at least 0; 1 is usual"),
    ({"loss": {"name": "robust", "beta": 0.1}}, "loss.label_smoothing is missing"),
    ({"loss": {"name": "dpo", "nll_alpha": 0}}, "loss.nll_alpha = 0 must be above 0; 0.2 to 1 is usual"),
    ({"loss": {"name": "kto", "nll_alpha": 1}}, "loss.nll_alpha is not a setting here; the loss kto uses"),
    (
        {"loss": {"name": "kto", "desirable_weight": 0}},
        "loss.desirable_weight = 0 must be above 0; 1 is usual",
    ),
    ({"stage": "ppo"}, 'stage = "ppo" is not available; available are dpo, sft, score'),
    ({"stage": "sft"}, "loss is not a setting here: stage sft has one loss"),
    ({"stage": "score", "trainable": "full"}, 'trainable = "full" trains, stage score does not'),
    ({"trainable": "head"}, 'trainable = "head" is not available; available are lora, full'),
    ({"trainable": "full"}, 'lora is not a setting here: trainable "full" changes the base itself'),
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
    (
        {"optimizer": {"pairs_per_pass": 0}},
        "optimizer.pairs_per_pass = 0 must be at least 1; null (the trainer chooses) is usual",
    ),
    ({"gradient_checkpointing": 1}, "gradient_checkpointing = 1 must be true or false"),
    ({"overlong": "drop"}, 'overlong = "drop" is not available; available are leave_out, cut'),
    ({"evaluation": {"share": 0.9}}, "evaluation.share = 0.9 must be at most 0.5; 0.1 is usual"),
    ({"evaluation": {"every": 0}}, "evaluation.every = 0 must be at least 1; null (after each epoch)"),
    ({"evaluation": {"patience": 1.5}}, "evaluation.patience = 1.5 must be a whole number; 3 is usual"),
    ({"evaluation": {"keep_best": "yes"}}, 'evaluation.keep_best = "yes" must be true or false'),
    ({"ledger": ""}, 'ledger = "" must be a text that is not empty'),
    ({"chunk_tokens": "many"}, 'chunk_tokens = "many" must be a whole number'),
    ({"lora": {"alpha": 10**400}}, "lora.alpha = 1000"),
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


FULL = {"base_model": "PATH_OR_ID", "trainable": "full"}
SFT = {"base_model": "PATH_OR_ID", "stage": "sft"}


@pytest.mark.parametrize("values", [FULL, SFT, SFT | FULL, {"base_model": "b", "stage": "score"}])
def test_each_stage_and_way_of_training_survives_being_written_and_read(values: dict[str, Any]) -> None:
    config = parse_config(values)
    assert parse_config(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (FULL | {"lora": {"r": 8}}, 'lora is not a setting here: trainable "full" changes the base'),
        (FULL | {"parent_adapter": "before"}, 'parent_adapter is not a setting here: trainable "full"'),
        (SFT | {"parent_adapter": "before"}, "parent_adapter is not a setting here: stage sft starts from"),
        (SFT | {"loss": {"name": "dpo"}}, "loss is not a setting here: stage sft has one loss"),
        (SFT | {"evaluation": {"share": 0.9}}, "evaluation.share = 0.9 must"),
        (SFT | {"ledger": "l.sqlite"}, "ledger is not a setting here: stage sft has no reference"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_config(values)


def test_each_loss_has_the_defaults_that_its_paper_uses() -> None:
    def loss(name: str) -> LossSettings:
        return parse_config({"base_model": "b", "loss": {"name": name}}).loss

    assert loss("simpo") == LossSettings(name="simpo", beta=2.0, gamma=1.0)
    assert loss("dpo_norm") == LossSettings(name="dpo_norm", beta=5.0)
    assert loss("orpo") == LossSettings(name="orpo", lambda_=0.1)
    assert loss("kto") == LossSettings(name="kto", desirable_weight=1.0, undesirable_weight=1.0)
    assert loss("rao_kupper") == LossSettings(name="rao_kupper", nu=3.0)
    assert loss("davidson") == LossSettings(name="davidson", nu=1.0)


@pytest.mark.parametrize("name", [name for name in LOSS_KEYS if name not in {"cdpo", "robust"}])
def test_a_loss_is_written_with_the_keys_it_uses_and_no_other(name: str) -> None:
    config = parse_config({"base_model": "b", "loss": {"name": name}})
    assert set(config.as_json()["loss"]) == {"name", *LOSS_KEYS[name]} - {"nll_alpha"}
    assert parse_config(json.loads(json.dumps(config.as_json()))) == config


@pytest.mark.parametrize(
    ("stage", "trainable", "rate"),
    [("dpo", "lora", 5e-5), ("dpo", "full", 1e-6), ("sft", "lora", 2e-4), ("sft", "full", 2e-5)],
)
def test_the_learning_rate_that_is_not_given_suits_what_is_trained(
    stage: str, trainable: str, rate: float
) -> None:
    config = parse_config({"base_model": "b", "stage": stage, "trainable": trainable})
    assert config.optimizer.learning_rate == rate


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


def test_a_learning_rate_that_adapters_take_well_is_not_warned_of() -> None:
    assert config_warnings(parse_config({"base_model": "b", "optimizer": {"learning_rate": 1e-3}})) == ()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"loss": {"name": "dpo_norm", "beta": 0.1}}, "β = 0.1 is small for dpo_norm"),
        (
            {"loss": {"name": "kto"}, "optimizer": {"pairs_per_step": 1}},
            "optimizer.pairs_per_step = 1 leaves",
        ),
        ({"trainable": "full", "optimizer": {"learning_rate": 5e-5}}, "optimizer.learning_rate = 5e-05 is"),
        ({"optimizer": {"learning_rate": 0.1}}, "Learning rate = 0.1 is high for LoRA on preferences"),
    ],
)
def test_what_is_seldom_wise_is_warned_of(values: dict[str, Any], sentence: str) -> None:
    (warning,) = config_warnings(parse_config({"base_model": "b"} | values))
    assert warning.startswith(sentence)


@pytest.mark.parametrize("name", ["simpo", "orpo", "dpo_norm", "kto"])
def test_the_defaults_of_a_loss_are_not_warned_of(name: str) -> None:
    assert config_warnings(parse_config({"base_model": "b", "loss": {"name": name}})) == ()


def test_the_web_side_of_the_trainer_imports_nothing_heavy() -> None:
    loaded = _modules_after("import training.core.run.config, training.core.run.directory")
    assert loaded.isdisjoint({"torch", "transformers", "peft", "safetensors", "numpy", "django"})


def test_the_trainer_imports_no_django() -> None:
    loaded = _modules_after(
        "import training.core.__main__, training.core.stages.dpo, training.core.stages.sft, "
        "training.core.stages.score"
    )
    assert "torch" in loaded
    assert loaded.isdisjoint({"django", "annotate", "dpo_studio", "django_rq", "rq"})


def _modules_after(statement: str) -> set[str]:
    script = f"import sys; {statement}; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(output.split())
