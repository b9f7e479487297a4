"""The policy in use: chosen, sampled or the newest; the home and the round page speak of the same one."""

from __future__ import annotations

import re

import pytest

from annotate.models import Verdict
from tests.training.evaluation.world import answer_all, judged_policy, reference_of
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_policy, add_run, page_world
from training.evaluation.charts import share_chart
from training.models import Job, Policy, Recipe, Round, Run
from training.policy_chart import Point
from training.selectors.policy_in_use import in_use, way_to
from training.services.round_endings import choose_policy, close_round
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    found = page_world(heldout=24)
    answer_all(reference_of(found.study), text="the reference says {} to it".format)
    return found


def swept(world: PageWorld) -> Round:
    """Round 1 gave policies 1 and 2, of which only the second fails its gate: it loses every comparison."""
    judged_policy(world.study, won=lambda row: True)
    item = world.study.rounds.get()
    second = judged_policy(world.study, number=2, text="the second says {}".format, won=lambda row: False)
    run = second.run
    world.study.rounds.filter(number=2).update(number=9)
    type(run).objects.filter(pk=run.pk).update(round=item, number=2)
    world.study.rounds.filter(number=9).delete()
    Round.objects.filter(pk=item.pk).update(state=Round.State.TRAINED)
    return world.study.rounds.get()


def policy(world: PageWorld, number: int) -> Policy:
    return world.study.policies.get(number=number)


def page(world: PageWorld, rest: str = "") -> str:
    return world.lead.get(world.url(rest)).content.decode().replace("\N{NO-BREAK SPACE}", " ")


def headline(world: PageWorld, rest: str = "") -> str:
    return page(world, rest).split('class="headline-sentence">')[1].split("<")[0]


def loop_of(html: str) -> str:
    return html.split('id="live-loop"')[1].split("</section>")[0]


def test_both_pages_tell_the_same_of_the_loop(world: PageWorld) -> None:
    def same(said: str) -> None:
        number = world.study.rounds.latest("number").number
        tokens = re.compile(r'name="csrfmiddlewaretoken" value="[^"]*"')
        home, of_round = (tokens.sub("", loop_of(page(world, rest))) for rest in ("", f"rounds/{number}/"))
        assert home == of_round
        assert said in home

    item = swept(world)
    same("Their gates: Policy 1 is not known yet, Policy 2 fails.")
    choose_policy(round=item, policy=policy(world, 2))
    same("Policy 2 fails its gate: It wins only 0 %")
    choose_policy(round=item, policy=policy(world, 1))
    same("from Policy 1. Its gate is not known yet: ")
    same("24 prompts judged")
    opened = open_round(study=world.study)
    fill_round(opened)
    same("0 of 2 usable preferences")
    label_round(opened, verdicts=[Verdict.A, Verdict.B])
    same("Train on round 2…")


def test_going_on_waits_for_the_evaluation_and_says_what_it_ends(world: PageWorld) -> None:
    judged_policy(world.study, won=lambda row: True)
    world.study.rounds.update(state=Round.State.TRAINED)
    job = Job.objects.create(
        study=world.study, kind=Job.Kind.SCORING, policy=policy(world, 1), state=Job.State.RUNNING
    )
    loop = loop_of(page(world))
    assert "Scoring Policy 1 is still going on; what the gate says may change until it is done." in loop
    assert '<button id="next-button" type="submit" class="secondary"' in loop
    Job.objects.filter(pk=job.pk).update(state=Job.State.DONE)
    loop = loop_of(page(world))
    assert "is still going on" not in loop
    assert "Round 1 takes no further runs after that." in loop
    assert '<button id="next-button" type="submit" data-busy' in loop


def test_training_like_a_policy_that_fails_its_gate_is_warned_of(world: PageWorld) -> None:
    failing = judged_policy(world.study, won=lambda row: False)
    recipe = world.study.recipe
    config = {
        **failing.run.config,
        "optimizer": {"learning_rate": recipe.learning_rate},
        "loss": {"name": "dpo", "beta": recipe.beta},
    }
    Run.objects.filter(pk=failing.run.pk).update(config=config)
    world.study.rounds.update(state=Round.State.TRAINED)
    opened = open_round(study=world.study, policy=reference_of(world.study))
    warned = "Policy 1 was trained with this learning rate and β, and fails its gate (Win rate over"
    assert warned in page(world, f"rounds/{opened.number}/")
    Recipe.objects.filter(pk=recipe.pk).update(learning_rate=recipe.learning_rate / 10)
    assert warned not in page(world, f"rounds/{opened.number}/")


def test_question_is_asked_of_the_policy_that_was_chosen(world: PageWorld) -> None:
    item = swept(world)
    assert headline(world).startswith("Policy 2 fails its gate")
    assert "This is about Policy 2, the newest; Policy 1 can be chosen as well." in page(world)
    choose_policy(round=item, policy=policy(world, 1))
    for rest in ("", "evaluation/"):
        assert headline(world, rest).startswith("Policy 1 is better than the SFT reference")
        said = "This is about Policy 1, which round 2 will sample; Policy 2 is newer and was not chosen."
        assert said in page(world, rest)
        assert "gate-remedy" not in page(world, rest)
    open_round(study=world.study)
    assert "This is about Policy 1, which round 2 samples;" in page(world)


def test_way_out_of_a_failing_policy_may_be_newer_than_it(world: PageWorld) -> None:
    item = swept(world)
    third = add_policy(world.study, number=3, run=add_run(item, number=3))
    choose_policy(round=item, policy=policy(world, 2))
    remedy = page(world).split("gate-remedy")[1].split("</p>")[0]
    assert f'href="{world.url(f"policies/{third.number}/#gate")}"' in remedy


def test_going_back_to_the_reference_leaves_nothing_to_judge(world: PageWorld) -> None:
    item = swept(world)
    choose_policy(round=item, policy=policy(world, 0))
    for rest in ("", "evaluation/"):
        assert headline(world, rest).startswith("The SFT reference is in use again")
        assert "This is about the SFT reference, which round 2 will sample" in page(world, rest)


def test_closing_a_round_without_a_policy_keeps_the_one_in_use(world: PageWorld) -> None:
    item = swept(world)
    assert in_use(world.study).policy is None
    choose_policy(round=item, policy=policy(world, 1))
    close_round(round=open_round(study=world.study))
    assert in_use(world.study).policy == policy(world, 1)


def test_way_leads_through_what_rounds_sampled_whatever_a_run_started_from(world: PageWorld) -> None:
    item = swept(world)
    choose_policy(round=item, policy=policy(world, 1))
    second = make_round(world.study, number=2, state=Round.State.TRAINED)
    Round.objects.filter(pk=second.pk).update(sampled_policy=policy(world, 1))
    afresh = add_policy(world.study, number=3, run=add_run(second))  # its run began at the reference
    everybody = list(world.study.policies.select_related("run__round").order_by("number"))
    way = way_to(afresh, policies=everybody)
    assert [row.number for row in everybody if row.pk in way] == [0, 1, 3]
    assert way_to(None, policies=everybody) == frozenset()


def test_line_of_a_chart_passes_by_what_is_aside() -> None:
    points = [Point("1", 0.5), Point("2", 0.9, is_aside=True), Point("3", 0.7)]
    chart = share_chart([("over the SFT reference", points)])
    assert chart is not None
    (series,) = chart.series
    first, aside, last = series.marks
    assert series.line == f"{first.x},{first.y} {last.x},{last.y}"
    assert aside.title.endswith(", not on the way to the policy in use")
    assert chart.has_aside
    assert chart.title.text == "Policy"


def test_charts_draw_what_was_not_chosen_pale(world: PageWorld) -> None:
    choose_policy(round=swept(world), policy=policy(world, 1))
    for rest, charts in (("", 1), ("evaluation/", 2)):
        html = page(world, rest)
        assert html.count("pale: not on the way to the policy in use") == charts
        assert html.count('<g class="chart-aside">') == charts
