"""The form of further runs on the labels of a round."""

import re
from urllib.parse import urlencode

import pytest

from annotate.models import Verdict
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_policy, page_world
from training.forms.run import FurtherRunForm
from training.models import Job, Policy, Round, Run
from training.selectors import estimates
from training.selectors.estimates import Speed
from training.services.rounds import open_round, start_training
from training.services.run_directories import absolute
from training.views.further_runs import preview_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def trained_round(world: PageWorld) -> Run:
    """A round whose frozen run directory is there, and whose run gave a policy."""
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B])
    run = start_training(round=opened)
    add_policy(world.study, run=run)
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINED)
    return run


def typed(**changes: str) -> dict[str, str]:
    usual = {"start": "reference", "loss": "dpo", "beta": "0.1", "learning_rate": "5e-5"}
    return {**usual, "epochs": "2", "seed": "0", "pairs_per_step": "8", **changes}


def test_sweep_of_two_settings_queues_every_combination(world: PageWorld) -> None:
    trained_round(world)
    form = world.lead.get(world.url("rounds/1/runs/new/")).content.decode()
    assert 'value="5e-5"' in form
    answer = world.lead.post(
        world.url("rounds/1/runs/new/"), typed(beta="0.05, 0.3", learning_rate="1e-4 5e-5"), follow=True
    )
    assert "Runs 2 to 5 are queued; they train one after another" in answer.content.decode()
    tried = {
        (run.config["loss"]["beta"], run.config["optimizer"]["learning_rate"])
        for run in Run.objects.filter(number__gt=1)
    }
    assert tried == {(0.05, 1e-4), (0.05, 5e-5), (0.3, 1e-4), (0.3, 5e-5)}


def test_preview_says_what_would_start_what_it_warns_of_and_starts_nothing(world: PageWorld) -> None:
    trained_round(world)
    preview = world.lead.get(
        world.url("rounds/1/runs/new/"), {**typed(beta="0.01, 0.1", seed="1"), "preview": "1"}
    ).content.decode()
    assert "2 runs on 2 examples" in preview
    assert "<li>β 0.01, seed 1</li>" in preview
    assert "<li>seed 1</li>" in preview
    assert "β = 0.01 is below 0.05: the policy may collapse" in preview
    assert Run.objects.count() == 1


def test_the_highest_of_several_learning_rates_is_warned_of(world: PageWorld) -> None:
    trained_round(world)
    values = {**typed(learning_rate="1e-4 0.1"), "preview": "1"}
    preview = world.lead.get(world.url("rounds/1/runs/new/"), values).content.decode()
    assert "Learning rate = 0.1 is high for LoRA on preferences" in preview


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("beta", "0.1, much", "β = much must be a number; 0.1 is usual."),
        ("beta", "-1", "β = -1 must be above 0; 0.1 is usual."),
        ("epochs", "0", "Epochs = 0 must lie between 1 and 100"),
        ("seed", "1 2 3 4 5 6 7 8 9", "That makes 9 runs; at most 8 start at once."),
        ("gamma", "1", "gamma"),
        ("seed", "0", "This would be run 1 once more, with the same result; change a setting"),
    ],
)
def test_faulty_settings_are_refused_and_start_nothing(
    world: PageWorld, field: str, value: str, said: str
) -> None:
    trained_round(world)
    answer = world.lead.post(world.url("rounds/1/runs/new/"), typed(**{field: value}))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Run.objects.count() == 1


def test_far_too_many_combinations_are_refused_without_making_them(
    world: PageWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_round(world)
    monkeypatch.setattr(FurtherRunForm, "plans", lambda form: pytest.fail("plans were made"))
    many = " ".join(map(str, range(1, 101)))
    sweep = typed(beta=many, epochs=many, seed=many, learning_rate="1e-4 5e-5")
    answer = world.lead.post(world.url("rounds/1/runs/new/"), sweep)
    assert "That makes 2000000 runs; at most 8 start at once." in answer.content.decode()


def test_several_betas_of_a_loss_without_beta_are_one_run(world: PageWorld) -> None:
    trained_round(world)
    sweep = typed(loss="orpo", beta="1 2 3 4 5 6 7 8 9")
    world.lead.post(world.url("rounds/1/runs/new/"), sweep)
    assert Run.objects.count() == 2


def test_sweep_of_epochs_is_told_the_time_of_each(world: PageWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained_round(world)
    speed = Speed(seconds_per_example=100, seconds_to_start=0, source="as said")
    monkeypatch.setattr(estimates, "measured_speed", lambda recipe: speed)
    form = FurtherRunForm(typed(epochs="1, 3"), source=run)
    assert preview_of(form, run)["seconds"] == 2 * 100 * (1 + 3)


def form_page(world: PageWorld, query: str = "") -> str:
    html: str = world.lead.get(world.url(f"rounds/1/runs/new/{query}")).content.decode()
    return html


def filled_in(html: str) -> dict[str, str]:
    """Return what the form would send as it stands."""
    fields = dict(re.findall(r'<input type="\w+" name="(\w+)" value="([^"]*)"', html))
    chosen = re.search(r'<option value="(\w+)" selected>', html)
    start = re.search(r'name="start" value="(\w+)"[^>]* checked', html)
    assert chosen
    return {**fields, "loss": chosen[1], "start": start[1] if start else "reference"}


def test_form_opens_with_a_sweep_of_beta_that_starts_as_it_stands(world: PageWorld) -> None:
    trained_round(world)
    html = form_page(world)
    assert "β sweep: 0.05, 0.3" in html
    assert "2 runs on 2 examples" in html
    world.lead.post(world.url("rounds/1/runs/new/"), filled_in(html))
    betas = {run.number: run.config["loss"]["beta"] for run in Run.objects.all()}
    assert betas == {1: 0.1, 2: 0.05, 3: 0.3}
    # Every usual β has had its run now: the next thing to try is suggested.
    assert "β sweep" not in form_page(world)


@pytest.mark.parametrize(
    ("key", "changed"),
    [
        ("loss", [("loss", {"name": "ipo", "beta": 0.1})]),
        ("seed", [("seed", 1), ("seed", 2)]),
        ("start", [("parent_adapter", None)]),
    ],
)
def test_each_suggestion_starts_as_it_stands(
    world: PageWorld, key: str, changed: list[tuple[str, object]]
) -> None:
    run = trained_round(world)
    policy = add_policy(world.study, number=2)
    Policy.objects.filter(pk=policy.pk).update(adapter_path="policies/none")
    Round.objects.filter(pk=run.round_id).update(sampled_policy=policy)
    going_on = str(absolute("policies/none"))
    Run.objects.filter(pk=run.pk).update(config={**run.config, "parent_adapter": going_on})
    html = form_page(world, f"?from=1&try={key}")
    answer = world.lead.post(world.url("rounds/1/runs/new/"), filled_in(html))
    assert answer.status_code == 302
    first = Run.objects.get(number=1)
    made = [further.config for further in Run.objects.filter(number__gt=1)]
    assert made == [{**first.config, name: value} for name, value in changed]


def test_settings_of_a_run_as_they_are_say_what_to_change(world: PageWorld) -> None:
    trained_round(world)
    html = form_page(world, "?from=1")
    assert "data-nothing-new" in html
    assert "These are the settings of run 1" in html
    assert "Change at least one setting, usually β" in html


def test_settings_are_known_again_after_the_home_was_moved(world: PageWorld) -> None:
    run = trained_round(world)
    policy = add_policy(world.study, number=2)
    Policy.objects.filter(pk=policy.pk).update(adapter_path="policies/none")
    Round.objects.filter(pk=run.round_id).update(sampled_policy=policy)
    Run.objects.filter(pk=run.pk).update(config={**run.config, "parent_adapter": "/before/policies/none"})
    assert "These are the settings of run 1" in form_page(world, "?from=1")


def test_what_is_there_already_is_left_out_of_a_sweep_and_said(world: PageWorld) -> None:
    trained_round(world)
    sweep = typed(beta="0.1, 0.3")
    preview = form_page(world, "?" + urlencode({**sweep, "preview": "1"}))
    assert "1 run on 2 examples" in preview
    assert "run 1 already, left out" in preview
    answer = world.lead.post(world.url("rounds/1/runs/new/"), sweep, follow=True).content.decode()
    assert "Run 2 is queued" in answer
    assert "Left out, since they are there already: run 1." in answer
    assert Run.objects.count() == 2


def test_suggested_loss_can_learn_from_ties_and_preview_tells_which_cannot(world: PageWorld) -> None:
    run = trained_round(world)
    Run.objects.filter(pk=run.pk).update(receipt={**run.receipt, "ties_used": 2})
    assert "Another loss: DPO with ties (Rao–Kupper)" in form_page(world)
    preview = form_page(world, "?" + urlencode({**typed(seed="1"), "preview": "1"}))
    assert "learns from 2 ties, which the loss dpo cannot" in preview


@pytest.mark.parametrize(
    ("of_run", "suggested"), [({"name": "davidson", "beta": 0.1, "nu": 1.0}, ("rao_kupper", "3"))]
)
def test_suggested_model_of_ties_comes_with_its_own_usual_parameter(
    world: PageWorld, of_run: dict[str, object], suggested: tuple[str, str]
) -> None:
    run = trained_round(world)
    config = {**run.config, "loss": of_run}
    Run.objects.filter(pk=run.pk).update(config=config, receipt={**run.receipt, "ties_used": 2})
    form = filled_in(form_page(world, "?from=1&try=loss"))
    assert (form["loss"], form["nu"]) == suggested
    preview = form_page(world, "?" + urlencode({**form, "nu": "1", "preview": "1"}))
    assert "which the loss rao_kupper with ν = 1 says never happen" in preview


def test_form_that_is_open_while_the_round_closes_says_so_in_place(world: PageWorld) -> None:
    run = trained_round(world)
    Round.objects.filter(pk=run.round_id).update(state=Round.State.CLOSED)
    preview = form_page(world, "?" + urlencode({**typed(seed="1"), "preview": "1"}))
    assert "Round 1 is closed" in preview
    assert "data-nothing-new" in preview


def test_closed_round_says_at_once_that_it_takes_no_further_runs(world: PageWorld) -> None:
    run = trained_round(world)
    assert "Duplicate with changes" in world.lead.get(world.url("rounds/1/runs/1/")).content.decode()
    Round.objects.filter(pk=run.round_id).update(state=Round.State.CLOSED)
    answer = world.lead.get(world.url("rounds/1/runs/new/"), follow=True)
    assert answer.redirect_chain == [(world.url("rounds/1/"), 302)]
    assert "Round 1 is closed; its labels are part of" in plain(answer.content.decode())
    assert "Duplicate with changes" not in world.lead.get(world.url("rounds/1/runs/1/")).content.decode()


def plain(html: str) -> str:
    return html.replace("&#x27;", "'")


def test_run_is_duplicated_with_its_own_settings(world: PageWorld) -> None:
    trained_round(world)
    world.lead.post(world.url("rounds/1/runs/new/"), typed(beta="0.3", loss="ipo"))
    form = world.lead.get(world.url("rounds/1/runs/new/?from=2")).content.decode()
    assert 'value="0.3"' in form
    assert '<option value="ipo" selected>' in form
    assert world.lead.get(world.url("rounds/1/runs/new/?from=9")).status_code == 404


def test_round_without_a_run_says_to_train_first(world: PageWorld) -> None:
    make_round(world.study)
    answer = world.lead.get(world.url("rounds/1/runs/new/"), follow=True)
    assert "Round 1 has no run yet; train on it first." in answer.content.decode()
