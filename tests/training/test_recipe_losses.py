"""The recipe's losses: checked by the trainer's own reading of a config, frozen into runs, fed with ties."""

from pathlib import Path

import pytest
from django.conf import settings

from annotate.models import Verdict
from tests.training.factories import make_study
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, page_world
from tests.training.test_pages_recipe import error_beside, typed
from training.models import Recipe, Round
from training.services.recipes import loss_settings, update_recipe
from training.services.rounds import open_round
from training.services.run_directories import ledger_of, run_config, scoring_config
from training.services.training_set import build_training_set
from training.training_set.decide import Outcome

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


@pytest.mark.parametrize(
    ("changes", "beside", "said"),
    [
        ({"loss": "cdpo"}, "label_smoothing", "label_smoothing is missing"),
        ({"loss": "robust", "label_smoothing": "0.5"}, "label_smoothing", "must be below 0.5; 0.1 is usual."),
        ({"loss": "dpo", "gamma": "0.5"}, "gamma", "gamma is not a setting here; the loss dpo uses"),
        ({"loss": "rao_kupper", "nu": "0.5"}, "nu", "must be"),
        ({"loss": "kto"}, "loss", "kto"),
    ],
)
def test_a_loss_the_trainer_would_refuse_is_refused_in_its_words(
    world: PageWorld, changes: dict[str, str], beside: str, said: str
) -> None:
    response = world.lead.post(world.url("recipe/"), typed(world, **changes))
    assert response.status_code == 422
    assert said in error_beside(response.content.decode(), beside)
    assert Recipe.objects.get(study=world.study).loss == "dpo"


def test_a_loss_with_its_parameters_reaches_the_run(world: PageWorld) -> None:
    answer = world.lead.post(
        world.url("recipe/"), typed(world, loss="davidson", nu="0.5", nll_alpha="0.2"), follow=True
    )
    assert "The recipe is saved." in answer.content.decode()
    recipe = Recipe.objects.get(study=world.study)
    assert loss_settings(recipe).as_json() == {"name": "davidson", "beta": 0.1, "nu": 0.5, "nll_alpha": 0.2}


@pytest.mark.parametrize("loss", [loss for loss in Recipe.Loss.values if loss not in ("cdpo", "robust")])
def test_every_loss_works_with_its_usual_parameters(loss: str) -> None:
    recipe = make_study().recipe
    update_recipe(recipe=recipe, actor=None, loss=loss)
    assert loss_settings(recipe).name == loss


@pytest.mark.parametrize(("loss", "ties"), [("dpo", 0), ("rao_kupper", 1)])
def test_ties_are_examples_exactly_when_the_loss_learns_from_them(loss: str, ties: int) -> None:
    study = make_study(train=3)
    update_recipe(recipe=study.recipe, actor=None, loss=loss)
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.TIE, Verdict.B])
    built = build_training_set(round=Round.objects.get(pk=opened.pk))
    assert [example.tie for example in built.examples] == [False, True, False] if ties else [False, False]
    assert built.receipt.usable == 2 + ties
    assert (built.receipt.of(Outcome.TIED), built.receipt.of(Outcome.TIE)) == (1 - ties, ties)


def test_training_and_scoring_share_one_ledger_per_base_model(studio_home: Path) -> None:
    study, other = make_study(), make_study(base_model="other/model")
    opened = open_round(study=study)
    ledger = ledger_of(study.recipe)
    assert ledger.parent == Path(settings.STUDIO_HOME) / "ledgers"
    assert run_config(opened).ledger == scoring_config(opened.sampled_policy).ledger == str(ledger)
    assert ledger_of(other.recipe) != ledger
