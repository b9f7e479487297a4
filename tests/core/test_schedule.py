"""Which pairs a step trains on, and at which learning rate."""

import pytest

from training.core.run.config import OptimizerSettings
from training.core.stages.schedule import Plan, learning_rate_at


def test_every_epoch_sees_each_pair_once_in_an_order_of_its_own() -> None:
    plan = Plan(pairs=10, pairs_per_step=4, epochs=2, seed=0)
    assert (plan.steps_per_epoch, plan.steps) == (3, 6)
    epochs = [[index for step in steps for index in plan.batch(step)] for steps in (range(3), range(3, 6))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(10))] * 2
    assert epochs[0] != epochs[1]
    assert [len(plan.batch(step)) for step in range(3)] == [4, 4, 2]


def test_the_order_depends_on_the_seed_alone() -> None:
    def batches(seed: int) -> list[tuple[int, ...]]:
        plan = Plan(pairs=30, pairs_per_step=8, epochs=1, seed=seed)
        return [plan.batch(step) for step in range(plan.steps)]

    assert batches(1) == batches(1)
    assert batches(1) != batches(2)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # Ten steps, two of them warm-up: 1/2, 1, then eight steps from the peak downwards.
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(schedule: str, rates: list[float]) -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_ratio=0.2, schedule=schedule)
    assert [learning_rate_at(step, steps=10, settings=settings) for step in range(10)] == pytest.approx(rates)


def test_a_cosine_is_half_way_down_in_the_middle() -> None:
    settings = OptimizerSettings(learning_rate=1.0, warmup_ratio=0.0, schedule="cosine")
    rates = [learning_rate_at(step, steps=8, settings=settings) for step in range(8)]
    assert rates[0] == 1
    assert rates[4] == pytest.approx(0.5)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
