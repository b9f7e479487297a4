"""Time and memory of a run before it starts: from what runs took here, else from the trainer's benchmark."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from tests.support.model_folder import write_safetensors
from tests.training.factories import make_round, make_study
from tests.training.page_world import add_run
from training.models import Job, Run
from training.selectors import estimates
from training.selectors.estimates import Shape, adapter_parameters, memory_bytes, run_estimate, shape_of

pytestmark = pytest.mark.django_db
SMOLLM2 = Shape(134_515_008, layers=30, hidden=576, intermediate=1536, heads=9, key_value_width=192)


@pytest.fixture
def folder(model_folder: Path) -> Path:
    """A model folder of one million weights that says its shape."""
    sizes = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128}
    (model_folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **sizes}))
    write_safetensors(model_folder / "model.safetensors", shape=(1000, 1000))
    return model_folder


def test_memory_of_the_benchmarks_model_is_near_what_was_measured() -> None:
    recipe = make_study(dtype="bfloat16", lora_r=16).recipe
    predicted = memory_bytes(SMOLLM2, recipe=recipe, tokens=478)
    assert predicted == pytest.approx(2_756e6, rel=0.1)  # docs/benchmarks.md, warm ledger


def test_adapter_of_the_demo_model_has_the_parameters_that_peft_counts() -> None:
    assert adapter_parameters(SMOLLM2, r=16) == 4_884_480  # 16 · 30 · 10,176


def test_first_run_is_told_from_the_benchmark_scaled_by_cores_and_parameters(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(estimates, "installed_device", lambda: "cpu")
    recipe = make_study(base_model=str(folder), max_new_tokens=111).recipe  # 256 + 2 · 111 = 478 tokens
    found = run_estimate(recipe, examples=1000, epochs=2, round=None)
    assert found.tokens == 478
    # 2,000 pairs at 0.68 · (4 / 2) · (134.5 M / 1 M) a second, and the start.
    assert found.seconds == pytest.approx(20 + 2000 / (0.68 * 2 * 134.5), rel=1e-6)
    assert found.source.startswith("by the trainer's benchmark")


def test_first_run_on_a_gpu_has_no_estimate_of_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "installed_device", lambda: "cuda")
    found = run_estimate(make_study(base_model=str(folder)).recipe, examples=10, epochs=1, round=None)
    assert found.seconds is None
    assert found.gigabytes is not None


def test_later_runs_are_told_from_the_newest_one_that_finished_here(folder: Path) -> None:
    study = make_study(base_model=str(folder))
    run = add_run(make_round(study))
    began = timezone.now()
    Job.objects.filter(run=run).update(started_at=began, finished_at=began + timedelta(seconds=70))
    Run.objects.filter(pk=run.pk).update(
        result={"pairs_per_second": 2.0, "used": 100}, config={"optimizer": {"epochs": 1}}
    )
    found = run_estimate(study.recipe, examples=300, epochs=2, round=None)
    # 100 pairs took 50 s of the 70; 600 take 300 s and the start 20 s.
    assert found.seconds == pytest.approx(320)
    assert found.source == "as run 1 of round 1 took"
    assert found.times(3) == pytest.approx(960)


def test_model_that_is_not_here_has_no_estimate(folder: Path) -> None:
    assert shape_of("/no/such/folder") is None
    (folder / "config.json").write_text(json.dumps({"architectures": ["Odd"]}))
    assert shape_of(str(folder)) is None
    found = run_estimate(make_study(base_model="/no/such/folder").recipe, examples=1, epochs=1, round=None)
    assert (found.seconds, found.gigabytes, found.times(2)) == (None, None, None)
