"""A study with a reference and one trained policy."""

import pytest

from tests.training.factories import make_round
from tests.training.page_world import PageWorld, add_policy, add_run, page_world
from training.models import Policy, Round


@pytest.fixture
def world() -> PageWorld:
    return page_world(heldout=4)


@pytest.fixture
def reference(world: PageWorld) -> Policy:
    return world.study.policies.get(number=0)


@pytest.fixture
def trained(world: PageWorld) -> Policy:
    run = add_run(make_round(world.study, state=Round.State.TRAINED))
    return add_policy(world.study, run=run)
