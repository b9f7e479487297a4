"""The curves and the log of a run, as the round page asks for them."""

import json
from pathlib import Path

import pytest
from django.conf import settings

from tests.training.factories import make_round
from tests.training.page_world import PageWorld, add_run, page_world, write_metrics
from training.models import Job, Round, Run
from training.selectors.metrics import run_directory

pytestmark = pytest.mark.django_db
ROWS = [{"step": step, "loss": 0.7 - step / 100, "grad_norm": 1.0} for step in (1, 2, 3)]


@pytest.fixture
def world() -> PageWorld:
    return page_world()


@pytest.fixture
def run(world: PageWorld) -> Run:
    return add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING)


def metrics(world: PageWorld, query: str = "") -> dict[str, object]:
    response = world.lead.get(world.url(f"rounds/1/runs/1/metrics/{query}"))
    assert response.status_code == 200
    answer: dict[str, object] = response.json()
    return answer


def test_run_that_has_written_nothing_has_no_steps(world: PageWorld, run: Run) -> None:
    answer = metrics(world)
    assert (answer["steps"], answer["active"]) == ([], True)


def test_curves_come_whole_and_then_only_what_is_new(world: PageWorld, run: Run) -> None:
    write_metrics(run, ROWS[:2])
    first = metrics(world)
    assert first["steps"] == [1, 2]
    assert first["series"]["loss"] == pytest.approx([0.69, 0.68])  # type: ignore[index]
    assert first["series"]["rewards/margins"] == [None, None]  # type: ignore[index]
    write_metrics(run, ROWS)
    assert metrics(world, "?after=2&attempt=1")["steps"] == [3]


def test_distance_of_an_earlier_version_is_still_drawn_under_its_own_name(world: PageWorld, run: Run) -> None:
    write_metrics(run, [{**ROWS[0], "kl_per_token": 0.2}, {**ROWS[1], "absolute_log_ratio_per_token": 0.4}])
    series = metrics(world)["series"]
    assert series["kl_per_token"] == [0.2, None]  # type: ignore[index]
    assert series["absolute_log_ratio_per_token"] == [None, 0.4]  # type: ignore[index]


def test_step_0_is_not_lost(world: PageWorld, run: Run) -> None:
    write_metrics(run, [{"step": 0, "loss": 0.6931}])
    assert metrics(world)["steps"] == [0]


def test_line_that_is_being_written_waits_for_the_next_question(world: PageWorld, run: Run) -> None:
    write_metrics(run, ROWS[:1], tail='{"step": 2, "lo')
    assert metrics(world)["steps"] == [1]


def test_step_written_again_after_a_resume_counts_once_with_its_last_value(
    world: PageWorld, run: Run
) -> None:
    write_metrics(run, [*ROWS, {"step": 2, "loss": 0.5}, {"step": 3, "loss": 0.4}])
    answer = metrics(world)
    assert answer["steps"] == [1, 2, 3]
    assert answer["series"]["loss"] == [0.69, 0.5, 0.4]  # type: ignore[index]


def test_value_that_is_not_finite_is_named_and_leaves_a_gap(world: PageWorld, run: Run) -> None:
    write_metrics(run, [*ROWS[:1], {"step": 2, "loss": float("nan"), "grad_norm": float("inf")}])
    response = world.lead.get(world.url("rounds/1/runs/1/metrics/"))
    assert b"NaN" not in response.content
    answer = response.json()
    assert answer["series"]["loss"] == [0.69, None]
    assert answer["not_finite"] == ["loss", "grad_norm"]


def test_new_attempt_starts_the_curves_again(world: PageWorld, run: Run) -> None:
    write_metrics(run, ROWS)
    Job.objects.filter(run=run).update(attempt_number=2)
    answer = metrics(world, "?after=3&attempt=1")
    assert (answer["restart"], answer["attempt"], answer["steps"]) == (True, 2, [1, 2, 3])


@pytest.mark.parametrize("after", ["x", "-1", "9" * 40, "²"])
def test_step_that_is_no_number_means_from_the_start(world: PageWorld, run: Run, after: str) -> None:
    write_metrics(run, ROWS)
    assert metrics(world, f"?after={after}")["steps"] == [1, 2, 3]


def test_run_of_another_round_is_not_found(world: PageWorld, run: Run) -> None:
    assert world.lead.get(world.url("rounds/1/runs/2/metrics/")).status_code == 404
    assert world.outsider.get(world.url("rounds/1/runs/1/metrics/")).status_code == 404
    assert world.annotator.get(world.url("rounds/1/runs/1/log/")).status_code == 403


@pytest.mark.parametrize("directory", ["../outside", "/etc", ""])
def test_directory_outside_the_home_is_not_read(run: Run, directory: str) -> None:
    run.directory = directory
    with pytest.raises(ValueError, match="is not below STUDIO_HOME"):
        run_directory(run)


def test_log_shows_its_end_from_the_start_of_a_line(world: PageWorld, run: Run) -> None:
    directory = Path(settings.STUDIO_HOME) / run.directory
    directory.mkdir(parents=True)
    lines = [f"step {number} <b>loss</b>" for number in range(2000)]
    (directory / "train.log").write_text("\n".join(lines) + "\n")
    html = world.lead.get(world.url("rounds/1/runs/1/log/")).content.decode()
    assert "step 1999 &lt;b&gt;loss&lt;/b&gt;" in html
    assert "step 1000 " not in html
    shown = html[html.index("<pre") :].partition(">")[2]
    assert shown.startswith("step ")


def test_whole_curves_of_a_long_run_have_some_of_its_steps_and_the_last(world: PageWorld, run: Run) -> None:
    write_metrics(run, [{"step": step, "loss": 0.5} for step in range(1, 5001)], tail='{"step": 5001, "lo')
    steps = metrics(world)["steps"]
    assert isinstance(steps, list)
    assert 800 <= len(steps) <= 1010
    assert (steps[0], steps[-1]) == (pytest.approx(3, abs=3), 5000)
    assert metrics(world, "?after=4998&attempt=1")["steps"] == [4999, 5000]


def test_curves_of_a_long_run_are_answered_quickly(world: PageWorld, run: Run) -> None:
    write_metrics(run, [{"step": step, "loss": 0.5} for step in range(1, 5001)])
    answer = metrics(world, "?after=4990&attempt=1")
    assert answer["steps"] == list(range(4991, 5001))
    assert len(json.dumps(answer)) < 2000
