"""Merging a policy as a background job, with the real process on a tiny model."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from django.conf import settings
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.training.factories import attempt_of
from tests.training.page_world import PageWorld, add_policy, page_world
from training.jobs import perform_attempt
from training.models import Job, Policy
from training.services.jobs import retry_job
from training.services.merging import is_merged, start_merge

pytestmark = [
    pytest.mark.slow,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]
ADAPTER = "policies/one"


@pytest.fixture
def world(tiny_model: Path) -> PageWorld:
    return page_world(base_model=str(tiny_model), dtype="float32")


@pytest.fixture
def policy(world: PageWorld) -> Policy:
    made = add_policy(world.study)
    Policy.objects.filter(pk=made.pk).update(adapter_path=ADAPTER)
    return Policy.objects.select_related("study__recipe").get(pk=made.pk)


def write_adapter(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    adapted.save_pretrained(Path(settings.STUDIO_HOME) / ADAPTER)


def test_a_merged_model_comes_of_the_job_and_can_be_downloaded(
    world: PageWorld, policy: Policy, tiny_model: Path
) -> None:
    job = start_merge(policy=policy)
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    # The first try finds no adapter: its cause is readable, and a retry makes the model.
    assert job.state == Job.State.FAILED
    assert "has no adapter_config.json" in job.cause

    write_adapter(tiny_model)
    retry_job(job=job)
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    assert (job.state, job.done, job.total) == (Job.State.DONE, 3, 3)
    assert is_merged(policy)

    response = world.lead.get(world.url("policies/1/model.tar"))
    body = b"".join(response.streaming_content)  # type: ignore[attr-defined]
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        names = {Path(name).name for name in archive.getnames()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "manifest.json"} <= names
