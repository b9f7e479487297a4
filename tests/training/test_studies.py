"""A study that can go round the loop is made whole or not at all; a recipe is refused with sentences."""

from pathlib import Path

import pytest
from django.core.exceptions import ValidationError

from annotate.errors import PromptFileError
from annotate.models import AuditEntry, Membership, Prompt, Role, Study
from tests.training.factories import make_study, make_user
from training.models import Policy, Recipe
from training.services.base_models import BaseModelError
from training.services.recipes import recipe_warnings, update_recipe
from training.services.studies import Member, create_training_study

pytestmark = pytest.mark.django_db
PROMPTS = [b'{"prompt": "One?", "split": "train"}', b'{"prompt": "Two?", "split": "heldout"}']


def test_study_has_recipe_reference_prompts_and_members(model_folder: Path) -> None:
    lead, ada = make_user("lead"), make_user("ada")
    study = create_training_study(
        name="Short answers",
        lead=lead,
        base_model=str(model_folder),
        guidelines="Prefer **short**.",
        prompts=PROMPTS,
        members=[Member(user=ada, role=Role.ANNOTATOR)],
        recipe={"max_new_tokens": 32},
    )
    policy = Policy.objects.get(study=study)
    assert (policy.number, policy.parent, policy.adapter_path) == (0, None, "")
    assert (study.recipe.base_model, study.recipe.max_new_tokens) == (str(model_folder), 32)
    assert Prompt.objects.filter(study=study).count() == 2
    assert set(Membership.objects.values_list("user", "role")) == {(lead.pk, "lead"), (ada.pk, "annotator")}
    assert study.queue_notice == "No round has been opened yet; pairs come with round 1."


@pytest.mark.parametrize("fault", ["base model", "prompts", "recipe"])
def test_nothing_is_left_of_a_study_that_cannot_be_made(model_folder: Path, fault: str) -> None:
    base = "/no/such/folder" if fault == "base model" else str(model_folder)
    prompts = [*PROMPTS, b"{broken"] if fault == "prompts" else PROMPTS
    recipe = {"beta": -0.1} if fault == "recipe" else {}
    with pytest.raises((BaseModelError, PromptFileError, ValidationError)):
        create_training_study(name="X", lead=make_user(), base_model=base, prompts=prompts, recipe=recipe)
    assert not Study.objects.exists()
    assert not Prompt.objects.exists()
    assert not Recipe.objects.exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beta": -0.1}, "β = -0.1 must be above 0; 0.1 is usual."),
        ({"beta": 0.0}, "β = 0 must be above 0; 0.1 is usual."),
        ({"learning_rate": 0.0}, "Learning rate = 0 must be above 0"),
        ({"temperature": 0.0}, "makes the two responses of a pair identical"),
        ({"max_new_tokens": 2048}, "does not fit into a maximum length of 2048"),
        ({"lora_r": 128}, "LoRA rank = 128 is above 64"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"base_model": "/nowhere"}, "does not exist on this machine"),
    ],
)
def test_recipe_refuses_what_cannot_work(changes: dict[str, object], said: str) -> None:
    recipe = make_study().recipe
    before = Recipe.objects.values().get(pk=recipe.pk)
    with pytest.raises(ValidationError) as caught:
        update_recipe(recipe=recipe, actor=None, **changes)
    assert said in " ".join(caught.value.messages)
    assert Recipe.objects.values().get(pk=recipe.pk) == before


def test_recipe_change_leaves_an_audit_entry() -> None:
    recipe = make_study().recipe
    lead = make_user("lead")
    update_recipe(recipe=recipe, actor=lead, beta=0.2, epochs=2)
    entry = AuditEntry.objects.get(action="recipe.changed")
    assert (entry.actor, entry.details) == (lead, {"beta": [0.1, 0.2]})


def test_low_beta_warns() -> None:
    recipe = make_study(beta=0.01).recipe
    assert recipe_warnings(recipe) == ["β = 0.01 is below 0.05: the policy may collapse; 0.1 is usual."]


def test_a_learning_rate_of_a_tenth_warns_with_the_reason_beside_a_low_beta() -> None:
    low_beta, high_rate = recipe_warnings(make_study(beta=0.01, learning_rate=0.1).recipe)
    assert low_beta.startswith("β = 0.01 is below 0.05")
    assert "the loss diverges" in high_rate


def test_adapter_shape_is_fixed_by_the_first_policy() -> None:
    study = make_study()
    Policy.objects.create(study=study, number=1, served_name="p1")
    with pytest.raises(ValidationError, match="LoRA rank stays 16"):
        update_recipe(recipe=study.recipe, actor=None, lora_r=8)
