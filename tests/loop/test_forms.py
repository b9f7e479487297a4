"""The forms that the unattended loop fills in are those of the pages."""

from __future__ import annotations

import pytest
from django.test import Client

from annotate.models import Verdict
from dpo_studio.loop.browser import Form, parse_page
from dpo_studio.loop.journey import BETAS
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_policy, page_world
from training.models import Job, Policy, Round, Run
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def form_to(client: Client, path: str, ending: str) -> Form:
    form = parse_page(client.get(path).content.decode(), path=path).form_to(ending)
    assert form is not None, f"{path} has no form to {ending}"
    return form


def test_the_loop_trains_tries_other_values_and_chooses_a_policy(world: PageWorld) -> None:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B])

    train = form_to(world.lead, world.url("rounds/1/"), "rounds/1/train")
    world.lead.post(train.action, train.fields)
    run = Run.objects.get()
    add_policy(world.study, run=run)
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINED)

    more = form_to(world.lead, world.url("rounds/1/runs/new/"), "runs/new")
    world.lead.post(more.action, more.fields | {"beta": ", ".join(map(str, BETAS))})
    added = Run.objects.filter(number__gt=1).order_by("number")
    assert [item.config["loss"]["beta"] for item in added] == list(BETAS)

    for number, item in enumerate(added, start=2):
        add_policy(world.study, number=number, run=item)
        Job.objects.filter(run=item).update(state=Job.State.DONE)
    choice = form_to(world.lead, world.url("rounds/1/"), "rounds/1/choose")
    world.lead.post(choice.action, choice.fields | {"policy": "2"})
    assert Round.objects.get().chosen_policy == Policy.objects.get(number=2)
