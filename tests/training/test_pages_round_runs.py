"""A round with several runs: their table, panel and curves, choosing a policy, closing the round."""

import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Verdict
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import (
    RESULT,
    PageWorld,
    add_heldout_response,
    add_policy,
    add_run,
    heldout_prompts,
    page_world,
    write_metrics,
)
from training.models import EvaluationPlan, Job, Round, Run
from training.selectors.round_runs import MOST_POINTS
from training.services.round_endings import choose_policy, close_round
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


@pytest.mark.parametrize("policy", [{}, {"policy": "x"}, {"policy": "-1"}, {"policy": "9"}])
def test_choice_that_names_no_policy_chooses_nothing(world: PageWorld, policy: dict[str, str]) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    add_policy(world.study, run=add_run(item))
    assert world.lead.post(world.url("rounds/1/choose/"), policy).status_code == 404
    item.refresh_from_db()
    assert item.chosen_policy is None


def test_round_page_compares_runs_and_asks_for_a_choice(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    add_policy(world.study, run=add_run(item))
    second = add_run(item, number=2)
    Run.objects.filter(pk=second.pk).update(config={**second.config, "loss": {"name": "ipo", "beta": 0.1}})
    add_policy(world.study, number=2, run=second)
    html = world.lead.get(world.url("rounds/1/")).content.decode()
    assert "loss dpo, β 0.2, learning rate 1e-4" in html
    assert "loss ipo, β 0.1" in html
    assert "Choose which policy round 2 samples." in html
    assert "Round 1 gave 2 policies: choose which one round 2 samples." in html
    assert 'id="sweep"' in html
    chosen = world.lead.post(world.url("rounds/1/choose/"), {"policy": "1"}, follow=True).content.decode()
    assert "Round 2 will sample Policy 1, once you open it." in chosen
    assert 'class="is-chosen"' in chosen
    world.lead.post(world.url("rounds/open/"))
    assert world.study.rounds.get(number=2).sampled_policy.number == 1


def three_runs(world: PageWorld, *, chosen: int | None) -> list[Run]:
    """A trained round with three runs of different accuracies, each with its policy; one may be chosen."""
    item = make_round(world.study, state=Round.State.TRAINED)
    runs = [add_run(item, number=number) for number in (1, 2, 3)]
    for run, accuracy in zip(runs, (0.9, 0.987, 1.0), strict=True):
        Run.objects.filter(pk=run.pk).update(result={**RESULT, "train_accuracy": accuracy})
        policy = add_policy(world.study, number=run.number, run=run)
        if run.number == chosen:
            Round.objects.filter(pk=item.pk).update(chosen_policy=policy)
    return runs


def accuracy_at_home(world: PageWorld) -> str:
    (cell,) = re.findall(
        r'data-label="Accuracy" class="number">([^<]*)<', world.lead.get(world.url()).content.decode()
    )
    return str(cell)


@pytest.mark.parametrize(("chosen", "accuracy"), [(None, "100"), (1, "90"), (2, "99")])
def test_round_has_the_accuracy_of_the_policy_beside_it(
    world: PageWorld, chosen: int | None, accuracy: str
) -> None:
    three_runs(world, chosen=chosen)
    assert accuracy_at_home(world) == f"{accuracy}\N{NO-BREAK SPACE}%"


def test_round_page_shows_the_chosen_run_unless_another_is_under_way(world: PageWorld) -> None:
    runs = three_runs(world, chosen=2)

    def panel() -> str:
        html = world.lead.get(world.url("rounds/1/")).content.decode()
        assert html.count('id="curves"') == 1
        return html.split('id="run-title">')[1].split("</h2>")[0]

    assert panel() == f'<a href="{world.url("rounds/1/runs/2/")}">Run 2</a> · chosen'
    Job.objects.filter(run=runs[2]).update(state=Job.State.RUNNING)
    assert panel() == f'<a href="{world.url("rounds/1/runs/3/")}">Run 3</a>'
    assert world.lead.get(world.url("rounds/1/live/?run=2"))["HX-Refresh"] == "true"


def rows_of_runs(html: str) -> list[str]:
    return html.split('class="stacks run-table"')[1].split("</table>")[0].split("<tr")[2:]


def test_runs_table_says_how_each_policy_is_judged(world: PageWorld) -> None:
    three_runs(world, chosen=None)
    reference, second = (world.study.policies.get(number=number) for number in (0, 2))
    for policy, tokens in ((reference, 10), (second, 20)):
        for prompt in heldout_prompts(world.study):
            add_heldout_response(policy, prompt, "some words", tokens=tokens, log_ratio=2.5)
    unscored, scored, _ = rows_of_runs(world.lead.get(world.url("rounds/1/")).content.decode())
    assert '<span class="figure-with-mark">2.5' in scored
    assert "no verdict yet" in scored
    assert 'class="badge badge-bad" title="1 of ' in scored  # twice as long as the reference
    assert '<span class="figure-with-mark">–' in unscored
    assert 'class="badge badge-plain"' in unscored


def test_runs_table_marks_a_kl_of_responses_that_were_not_drawn_from_the_whole_policy(
    world: PageWorld,
) -> None:
    three_runs(world, chosen=None)
    first, second, third = world.study.policies.filter(number__gt=0).order_by("number")
    for prompt in heldout_prompts(world.study):
        add_heldout_response(first, prompt, "some words", log_ratio=2.5, top_p=0.95, temperature=1.0)
        add_heldout_response(second, prompt, "some words", log_ratio=2.5, top_p=1.0, temperature=1.0)
        add_heldout_response(third, prompt, "some words", top_p=0.95, temperature=1.0)
    marks = [
        'class="biased"' in row
        for row in rows_of_runs(world.lead.get(world.url("rounds/1/")).content.decode())
    ]
    assert marks == [True, False, False]


def only_the_adapter_is_checked(world: PageWorld, **log_ratios: float) -> None:
    """Let a policy's gate hang on its log-ratio alone: 0 fails, as it changes nothing; none is not known."""
    thresholds = dict.fromkeys(("length_growth", "kl", "displacement", "cut_share"))
    wins = dict.fromkeys(("win_rate_over_reference", "win_rate_over_parent"))
    EvaluationPlan.objects.create(study=world.study, **thresholds, **wins)
    for name, log_ratio in log_ratios.items():
        policy = world.study.policies.get(number=int(name.removeprefix("policy_")))
        for prompt in heldout_prompts(world.study):
            add_heldout_response(policy, prompt, "some words", log_ratio=log_ratio)


def options_of(world: PageWorld) -> dict[str, bool]:
    """What the choice offers, and whether it is what the page begins with."""
    html = world.lead.get(world.url("rounds/1/")).content.decode()
    form = html.split('id="choose-policy"')[1].split("</select>")[0]
    return {text: bool(mark) for mark, text in re.findall(r"<option[^>]*?( selected)?>([^<]*)<", form)}


def test_choice_says_what_each_gate_says_and_begins_with_the_only_policy_that_passes(
    world: PageWorld,
) -> None:
    three_runs(world, chosen=None)
    only_the_adapter_is_checked(world, policy_1=2.5, policy_3=0.0)
    assert options_of(world) == {
        "Policy 3 – fails its gate (1 of 2 checks)": False,
        "Policy 2 – gate not known yet": False,
        "Policy 1 – passes its gate": True,
        "SFT reference – needs no gate": False,
    }
    html = world.lead.get(world.url("rounds/1/")).content.decode()
    assert '<span class="rate-note">Adapter</span>' in rows_of_runs(html)[2]
    assert "Their gates: Policy 1 passes, Policy 2 is not known yet, Policy 3 fails." in html


@pytest.mark.parametrize(
    "log_ratios", [{}, {"policy_3": 0.0}, {"policy_2": 1.0, "policy_3": 2.0}, {"policy_1": 0.0}]
)
def test_choice_begins_with_nothing_where_not_one_policy_alone_passes(
    world: PageWorld, log_ratios: dict[str, float]
) -> None:
    three_runs(world, chosen=None)
    only_the_adapter_is_checked(world, **log_ratios)
    assert [text for text, is_first in options_of(world).items() if is_first] == ["Choose a policy"]


def test_newest_policy_that_fails_is_not_what_the_choice_begins_with(world: PageWorld) -> None:
    add_policy(world.study, run=add_run(make_round(world.study, state=Round.State.TRAINED)))
    assert options_of(world)["Policy 1 – gate not known yet"]
    only_the_adapter_is_checked(world, policy_1=0.0)
    assert options_of(world) == {
        "Choose a policy": True,
        "Policy 1 – fails its gate (1 of 2 checks)": False,
        "SFT reference – needs no gate": False,
    }
    html = world.lead.get(world.url("rounds/1/")).content.decode()
    assert "<strong>Policy 1</strong>, which fails its gate: Adapter." in html


def said_of_choice(world: PageWorld) -> str:
    html = world.viewer.get(world.url("rounds/1/")).content.decode()
    found = re.search(r'run-choice">([^<,]*), \d', html)
    return found[1] if found else ""


def test_round_says_who_chose_its_policy(world: PageWorld) -> None:
    three_runs(world, chosen=None)
    item, lead = world.study.rounds.get(), world.lead_user
    second, third = (world.study.policies.get(number=number) for number in (2, 3))
    assert said_of_choice(world) == ""
    choose_policy(round=item, policy=third, actor=lead)
    choose_policy(round=item, policy=second)
    assert said_of_choice(world) == "Policy 2 was chosen for round 2 by the command line"
    open_round(study=world.study, actor=lead)
    assert said_of_choice(world) == "Policy 2 was chosen for round 2 by the command line"


def test_round_says_who_opened_the_next_one_on_another_policy_than_was_chosen(world: PageWorld) -> None:
    three_runs(world, chosen=None)
    item, lead = world.study.rounds.get(), world.lead_user
    second, third = (world.study.policies.get(number=number) for number in (2, 3))
    choose_policy(round=item, policy=second)
    open_round(study=world.study, actor=lead, policy=third)
    assert said_of_choice(world) == f"Round 2 was opened on Policy 3 by {lead.display_name}"


def test_round_that_closed_without_a_policy_says_who_closed_it(world: PageWorld) -> None:
    item = open_round(study=world.study)
    close_round(round=item, actor=world.lead_user)
    said = f"The round was closed without a policy by {world.lead_user.display_name}"
    assert said_of_choice(world) == said
    open_round(study=world.study)
    assert said_of_choice(world) == said


def test_lines_laid_over_each_other_are_told_apart_by_what_differs(world: PageWorld) -> None:
    runs = three_runs(world, chosen=2)
    Run.objects.filter(pk=runs[1].pk).update(config={**runs[1].config, "loss": {"name": "dpo", "beta": 0.3}})
    legend = world.lead.get(world.url("rounds/1/")).content.decode().split('class="sweep-legend"')[1]
    lines = [re.sub("<[^>]*>", "", line) for line in legend.split("</ul>")[0].split("<li")[1:]]
    assert [line.partition(">")[2] for line in lines] == [
        "Run 1 loss dpo, β 0.2, learning rate 1e-4",
        "Run 2 · chosen β 0.3",
        "Run 3 the same settings",
    ]


def test_opening_a_round_without_the_choice_leads_to_where_it_is_made(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    for number in (1, 2):
        add_policy(world.study, number=number, run=add_run(item, number=number))
    answer = world.lead.post(world.url("rounds/open/"), follow=True)
    assert answer.redirect_chain == [(world.url("rounds/1/"), 302)]
    assert "Round 1 gave several policies; choose" in answer.content.decode()


def test_round_is_closed_with_its_consequence_in_sight(world: PageWorld) -> None:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A])
    html = " ".join(world.lead.get(world.url("rounds/1/")).content.decode().split())
    assert "3 labels that could still be given will not be" in html
    assert "Labels that were given stay (1), and later rounds train on them." in html
    answer = world.lead.post(world.url("rounds/1/close/"), follow=True)
    assert answer.redirect_chain == [(world.url(), 302)]
    assert "Round 1 is closed." in answer.content.decode()
    assert "close-button" not in world.lead.get(world.url("rounds/1/")).content.decode()


def test_round_can_be_closed_to_go_back_to_an_earlier_policy(world: PageWorld) -> None:
    three_runs(world, chosen=2)
    open_round(study=world.study)
    html = " ".join(world.lead.get(world.url("rounds/2/")).content.decode().split())
    assert '<option value="2" selected>Policy 2 again – gate not known yet</option>' in html
    assert '<option value="1">Policy 1 – gate not known yet</option>' in html
    answer = world.lead.post(world.url("rounds/2/close/"), {"policy": "1"}, follow=True)
    assert "round 3 can be opened when you like and samples Policy 1." in answer.content.decode()
    assert open_round(study=world.study).sampled_policy.number == 1


def test_round_that_cannot_close_keeps_its_choice(world: PageWorld) -> None:
    three_runs(world, chosen=2)
    answer = world.lead.post(world.url("rounds/1/close/"), {"policy": "1"}, follow=True)
    assert "closes by itself when the next round opens" in answer.content.decode()
    assert world.study.rounds.filter(chosen_policy__number=2).exists()


def test_page_of_an_earlier_policy_says_how_to_go_back_while_a_round_is_open(world: PageWorld) -> None:
    three_runs(world, chosen=2)
    opened = open_round(study=world.study)

    def said() -> str:
        return " ".join(world.lead.get(world.url("policies/1/")).content.decode().split())

    way = f'<a href="{world.url("rounds/2/")}#close-round">close round 2</a>'
    assert f"Train on it or {way} first" in said()
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINING)
    assert f"Wait for its run to end, or cancel the run and {way}" in said()
    world.lead.post(world.url("rounds/2/close/"))
    assert "Open round 3 on Policy 1</button>" in said()
    world.lead.post(world.url("rounds/open/"), {"policy": "1"})
    assert world.study.rounds.get(number=3).sampled_policy.number == 1


def test_curves_of_all_runs_come_thinned_with_first_and_last_step(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINING)
    long = add_run(item, state=Job.State.RUNNING)
    add_run(item, state=Job.State.QUEUED, number=2)
    write_metrics(long, [{"step": step, "loss": 1 / step} for step in range(1, 5001)], tail='{"step": 50')
    answer = json.loads(world.lead.get(world.url("rounds/1/curves/")).content)
    first, second = answer["runs"]
    assert answer["active"] is True
    assert (first["steps"][0], second["steps"]) == (1, [])
    assert first["steps"][-1] >= 4984
    assert MOST_POINTS - 10 <= len(first["steps"]) <= MOST_POINTS + 1
    assert first["series"]["loss"][0] == 1.0


def test_round_page_needs_as_many_queries_with_eight_runs_as_with_two(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)

    def queries() -> int:
        world.lead.get(world.url("rounds/1/"))
        with CaptureQueriesContext(connection) as captured:
            world.lead.get(world.url("rounds/1/"))
        return len(captured)

    for number in range(1, 3):
        add_policy(world.study, number=number, run=add_run(item, number=number))
    few = queries()
    for number in range(3, 9):
        add_policy(world.study, number=number, run=add_run(item, number=number))
    assert queries() == few
