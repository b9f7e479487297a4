"""The recipe page: ranges with sentences, warnings, and all changes or none."""

from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.training.factories import make_job, make_round
from tests.training.page_world import PageWorld, add_run, page_world
from training.forms.recipe import recipe_values
from training.models import Job, Recipe, Round
from training.services.demo import DEMO_RECIPE

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def typed(world: PageWorld, **changes: str) -> dict[str, str]:
    return {**{name: str(value) for name, value in recipe_values(world.study.recipe).items()}, **changes}


def error_beside(html: str, field: str) -> str:
    place = html.index(f'id="id_{field}_error"')
    return html[place : html.index("</ul>", place)]


def test_saved_recipe_is_shown_again_and_applies(world: PageWorld) -> None:
    response = world.lead.post(
        world.url("recipe/"), typed(world, beta="0.25", learning_rate="5e-5"), follow=True
    )
    html = response.content.decode()
    assert "The recipe is saved." in html
    assert 'value="0.25"' in html
    assert 'value="5e-5"' in html
    recipe = Recipe.objects.get(study=world.study)
    assert (recipe.beta, recipe.learning_rate) == (0.25, 5e-5)


def test_saving_the_page_as_it_is_changes_no_digit(world: PageWorld) -> None:
    Recipe.objects.filter(study=world.study).update(learning_rate=0.000123456789, temperature=0.7000000001)
    world.study.recipe.refresh_from_db()
    world.lead.post(world.url("recipe/"), typed(world))
    recipe = Recipe.objects.get(study=world.study)
    assert (recipe.learning_rate, recipe.temperature) == (0.000123456789, 0.7000000001)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("beta", "-0.1", "β = -0.1 must be above 0; 0.1 is usual."),
        ("beta", "0", "β = 0 must be above 0; 0.1 is usual."),
        ("beta", "nan", "β must be a number; 0.1 is usual."),
        ("beta", "much", "β must be a number; 0.1 is usual."),
        ("beta", "", "β must be a number; 0.1 is usual."),
        ("learning_rate", "0", "Learning rate = 0 must be above 0"),
        ("temperature", "3", "Temperature = 3 must lie between 0 and 2; 1.0 is usual."),
        ("temperature", "0", "makes the two responses of a pair identical"),
        ("epochs", "1.5", "Epochs must be a whole number; 1 to 3 is usual."),
        ("epochs", "0", "Epochs = 0 must lie between 1 and 100"),
        ("max_new_tokens", "4096", "does not fit into a maximum length of 2048"),
        ("samples_per_prompt", "1", "Responses per prompt = 1 must lie between 2 and 16"),
        ("lora_r", "65", "LoRA rank = 65 must lie between 1 and 64"),
        pytest.param("seed", "1" + "0" * 400, "000 must lie between 0 and 2147483647", id="huge seed"),
        ("base_model", "/no/such/folder", "/no/such/folder"),
        pytest.param("base_model", "/" + "a" * 400, "does not exist on this machine", id="long path"),
    ],
)
def test_bad_value_is_refused_beside_its_field_and_nothing_is_saved(
    world: PageWorld, field: str, value: str, said: str
) -> None:
    before = Recipe.objects.filter(study=world.study).values().get()
    response = world.lead.post(world.url("recipe/"), typed(world, pairs_per_step="4", **{field: value}))
    assert response.status_code == 422
    html = response.content.decode()
    assert said in error_beside(html, field)
    assert f'value="{value}"' in html or value == ""
    assert 'name="pairs_per_step" value="4"' in html
    assert Recipe.objects.filter(study=world.study).values().get() == before


def said_at(html: str, field: str) -> str:
    """Return what stands at a field: on the page, or in the answer to typed values, which takes its place."""
    place = html.index(f'id_{field}_said"')
    return " ".join(html[place : html.index("</div>", place)].partition(">")[2].split())


def test_low_beta_is_saved_with_a_warning_at_its_field(world: PageWorld) -> None:
    response = world.lead.post(world.url("recipe/"), typed(world, beta="0.01"), follow=True)
    html = response.content.decode()
    assert said_at(html, "beta").startswith('<span class="said-warning">β = 0.01 is ')
    assert said_at(html, "learning_rate") == ""
    assert 'href="#id_beta">Warning: β</a>' in html


def preview(world: PageWorld, **changes: str) -> str:
    answer = world.lead.get(world.url("recipe/"), {**typed(world, **changes), "preview": "1"})
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


def test_a_learning_rate_that_diverges_is_warned_of_at_its_field(world: PageWorld) -> None:
    Recipe.objects.filter(study=world.study).update(learning_rate=0.1)
    html = world.lead.get(world.url("recipe/")).content.decode()
    assert "Learning rate = 0.1 is high for LoRA" in said_at(html, "learning_rate")


def test_typed_values_are_warned_of_before_they_are_saved(world: PageWorld) -> None:
    assert "β = 0.01 is " in said_at(preview(world, beta="0.01"), "beta")
    assert "Temperature = 0.1 gives nearly the same response twice" in said_at(
        preview(world, temperature="0.1"), "temperature"
    )
    calm = preview(world)
    assert said_at(calm, "beta") == ""
    assert "said-" not in calm
    assert Recipe.objects.get(study=world.study).beta == 0.1


def test_sampling_that_biases_the_kl_is_noted_at_its_field_without_a_warning(world: PageWorld) -> None:
    html = preview(world, top_p="0.95")
    assert said_at(html, "top_p").startswith('<span class="said-note">Other than 1, it marks the KL figures')
    assert "said-warning" not in html
    assert "notice-warning" not in html
    assert said_at(html, "top_k") == ""


def test_typed_values_that_cannot_work_say_so_at_once(world: PageWorld) -> None:
    html = preview(world, epochs="0", beta="0.01")
    assert "Epochs = 0 must lie between 1 and 100" in said_at(html, "epochs")
    assert 'href="#id_epochs">Cannot be used: Epochs</a>' in html
    assert said_at(html, "beta") == ""
    assert "loss dpo" in preview(world, gamma="1")


def test_refused_form_says_at_its_fields_what_was_refused_alone(world: PageWorld) -> None:
    Recipe.objects.filter(study=world.study).update(beta=0.01)
    html = world.lead.post(world.url("recipe/"), typed(world, beta="0.3", epochs="0")).content.decode()
    assert "Epochs = 0 must lie between 1 and 100" in error_beside(html, "epochs")
    assert "said-" not in html


def test_demo_says_why_its_settings_are_not_the_usual_ones(world: PageWorld) -> None:
    assert "The demo" not in world.lead.get(world.url("recipe/")).content.decode()
    Recipe.objects.filter(study=world.study).update(**DEMO_RECIPE)
    html = world.lead.get(world.url("recipe/")).content.decode()
    assert "learning rate 5e-4 with 4 pairs per step" in html
    assert "said-warning" not in html
    Recipe.objects.filter(study=world.study).update(learning_rate=1e-4)
    assert "The demo" not in world.lead.get(world.url("recipe/")).content.decode()


def test_a_new_studys_settings_are_among_those_that_their_help_calls_usual(world: PageWorld) -> None:
    recipe = world.study.recipe
    html = world.lead.get(world.url("recipe/")).content.decode()
    assert (recipe.learning_rate, recipe.pairs_per_step, recipe.top_p, recipe.epochs) == (5e-5, 8, 1.0, 2)
    assert "A new study has 5e-5." in html
    for usual in (
        "5e-6 to 5e-5 from a billion parameters on",
        "usual: 8 to 128",
        "usual: 1.0",
        "usual: 1 to 3",
    ):
        assert usual in html


def test_preview_counts_responses_and_the_pairs_that_are_chosen(world: PageWorld) -> None:
    said = preview(world, samples_per_prompt="4", pair_choice="length", random_share="0.25")
    assert "16 responses" in said
    assert "to 4 prompts: about 3 pairs chosen, 1 at random" in said
    assert "to choose between pairs, draw 4 or more" in preview(world, pair_choice="margin")


def test_pair_choice_and_its_random_share_are_saved(world: PageWorld) -> None:
    world.lead.post(
        world.url("recipe/"), typed(world, samples_per_prompt="4", pair_choice="margin", random_share="0.3")
    )
    recipe = Recipe.objects.get(study=world.study)
    assert (recipe.samples_per_prompt, recipe.pair_choice, recipe.random_share) == (4, "margin", 0.3)
    refused = world.lead.post(world.url("recipe/"), typed(world, random_share="0"))
    assert "Random share = 0 must lie between 0.05 and 1; 0.25 is usual." in error_beside(
        refused.content.decode(), "random_share"
    )


def test_every_number_says_its_range_or_what_is_usual(world: PageWorld) -> None:
    html = world.lead.get(world.url("recipe/")).content.decode()
    assert "From 0.05 to 1; usual: 0.25." in html
    assert "below 0.05 the reference hardly counts" in html
    assert "20\N{NO-BREAK SPACE}% compare policies blindly" in html


def test_base_model_is_fixed_once_a_round_is_open(world: PageWorld) -> None:
    make_round(world.study)
    response = world.lead.post(world.url("recipe/"), typed(world, base_model="other/model"))
    assert "The base model is fixed once a round is open" in error_beside(
        response.content.decode(), "base_model"
    )


def test_old_form_does_not_undo_a_reference_that_was_set_since(world: PageWorld) -> None:
    html = world.lead.get(world.url("recipe/")).content.decode()
    old = typed(world, beta="0.3")
    assert f'name="base_before" value="{old["base_model"]}"' in html
    Recipe.objects.filter(study=world.study).update(base_model="/bases/learnt")
    old["base_before"] = old["base_model"]
    refused = world.lead.post(world.url("recipe/"), {**old, "epochs": "0"}).content.decode()
    assert f'name="base_before" value="{old["base_model"]}"' in refused
    world.lead.post(world.url("recipe/"), old)
    recipe = Recipe.objects.get(study=world.study)
    assert (recipe.beta, recipe.base_model) == (0.3, "/bases/learnt")


def test_base_model_waits_for_a_run_on_demonstrations(world: PageWorld, model_folder: Path) -> None:
    job = make_job(world.study, kind=Job.Kind.SFT)
    refused = world.lead.post(world.url("recipe/"), typed(world, base_model=str(model_folder)))
    assert "A run on demonstrations is under way" in error_beside(refused.content.decode(), "base_model")
    world.lead.post(world.url("recipe/"), typed(world, beta="0.3"))
    assert Recipe.objects.get(study=world.study).beta == 0.3
    Job.objects.filter(pk=job.pk).update(state=Job.State.CANCELLED)
    world.lead.post(world.url("recipe/"), typed(world, base_model=str(model_folder)))
    assert Recipe.objects.get(study=world.study).base_model == str(model_folder)


def test_preview_answers_to_any_path(world: PageWorld) -> None:
    preview(world, base_model="/" + "a" * 400)


@pytest.mark.parametrize(("who", "status"), [("viewer", 403), ("annotator", 403), ("outsider", 404)])
def test_recipe_is_the_leads(world: PageWorld, who: str, status: int) -> None:
    client = getattr(world, who)
    assert client.get(world.url("recipe/")).status_code == status
    assert client.post(world.url("recipe/"), typed(world, beta="0.3")).status_code == status
    assert Recipe.objects.get(study=world.study).beta == 0.1


def test_recipe_page_needs_as_many_queries_whatever_rounds_and_runs_there_are(world: PageWorld) -> None:
    def queries() -> int:
        world.lead.get(world.url("recipe/"))
        with CaptureQueriesContext(connection) as captured:
            world.lead.get(world.url("recipe/"))
        return len(captured)

    add_run(make_round(world.study, state=Round.State.CLOSED))
    few = queries()
    for number in range(2, 6):
        add_run(make_round(world.study, number=number, state=Round.State.CLOSED))
    assert queries() == few
    assert few <= 16
