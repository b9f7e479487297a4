"""Time and memory of a run before it starts: from what runs took here, else from the trainer's benchmark."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from django.urls import reverse
from django.utils import timezone

from tests.support.model_folder import write_safetensors
from tests.training.factories import make_round, make_study
from tests.training.loop import fill_round
from tests.training.page_world import add_run, client_of
from training.models import DemonstrationRun, Job, Round, Run
from training.selectors import estimates
from training.selectors.estimates import (
    Shape,
    adapter_parameters,
    demonstration_speed,
    memory_bytes,
    run_estimate,
    shape_of,
)
from training.selectors.recipe_page import recipe_preview
from training.services.rounds import open_round

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


def test_recipe_counts_what_the_next_training_set_will_have() -> None:
    study = make_study(train=4)
    recipe = study.recipe
    assert recipe_preview(recipe).preferences == 4  # a pair for each prompt
    item = make_round(study, state=Round.State.TRAINED)
    run = add_run(item)
    Run.objects.filter(pk=run.pk).update(receipt={"usable": 7, "rules": {"older_weight": 0.5}})
    assert (recipe_preview(recipe).preferences, recipe_preview(recipe).earlier) == (11, 7)
    Run.objects.filter(pk=run.pk).update(receipt={"usable": 7, "rules": {"older_weight": 0.0}})
    assert (recipe_preview(recipe).preferences, recipe_preview(recipe).earlier) == (4, 0)
    Run.objects.filter(pk=run.pk).update(receipt={"usable": 7})
    Round.objects.filter(pk=item.pk).update(state=Round.State.CLOSED)
    fill_round(open_round(study=study, policy=study.policies.get(number=0)))
    assert recipe_preview(recipe).preferences == 7 + 4


def test_recipe_without_prompts_promises_no_time() -> None:
    study = make_study()
    study.prompts.all().delete()
    page = (
        client_of(study.memberships.get(role="lead").user)
        .get(reverse("recipe-edit", args=[study.slug]))
        .content.decode()
    )
    assert "How long it takes is told once there are prompts." in page
    assert "0 preferences" not in page


def test_demonstrations_are_told_from_the_last_run_on_some_else_from_the_benchmark(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})
    monkeypatch.setattr(estimates, "installed_device", lambda: "cpu")
    study = make_study(base_model=str(folder))
    first = demonstration_speed(study.recipe)
    assert first is not None
    assert first.seconds_per_example == pytest.approx(256 / 478 / 0.68 / 134.5, rel=1e-6)
    run = DemonstrationRun.objects.create(
        study=study, number=1, config={}, examples=9, result={"pairs_per_second": 4.0}
    )
    Job.objects.create(study=study, kind=Job.Kind.SFT, state=Job.State.DONE, demonstration_run=run)
    later = demonstration_speed(study.recipe)
    assert later is not None
    assert (later.seconds_per_example, later.source) == (0.25, "as the last run on demonstrations took")


def test_model_that_is_not_here_has_no_estimate(folder: Path) -> None:
    assert shape_of("/no/such/folder") is None
    (folder / "config.json").write_text(json.dumps({"architectures": ["Odd"]}))
    assert shape_of(str(folder)) is None
    found = run_estimate(make_study(base_model="/no/such/folder").recipe, examples=1, epochs=1, round=None)
    assert (found.seconds, found.gigabytes, found.times(2)) == (None, None, None)
