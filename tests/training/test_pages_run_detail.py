"""A run's own page: alarms while it runs and after, the examples it contradicts, resuming, who may act."""

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Pair, Preference, Verdict
from annotate.services.resolutions import resolve_pair
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import RESULT, PageWorld, add_policy, add_run, page_world, write_metrics
from training.models import Job, Round, Run
from training.selectors.contradictions import Contradicted, contradicted
from training.selectors.run_page import last_checkpoint
from training.selectors.runs import run_alarms
from training.services.last_look import create_last_look
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db
STEP: dict[str, Any] = {
    "epoch": 1.0,
    "loss": 0.69,
    "rewards/margins": 0.1,
    "log_ratio_per_token/chosen": 0.01,
    "log_ratio_per_token/rejected": -0.01,
    "absolute_log_ratio_per_token": 0.01,
    "length_margin_correlation": 0.1,
    "grad_norm": 1.0,
}


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def training_run(world: PageWorld, *, state: Job.State = Job.State.RUNNING, **job: Any) -> Run:
    return add_run(make_round(world.study, state=Round.State.TRAINING), state=state, **job)


def trained_run(world: PageWorld) -> tuple[Run, list[Pair]]:
    """A run that is done, on the labels of a round that were really given."""
    opened = open_round(study=world.study)
    fill_round(opened)
    pairs = label_round(opened, verdicts=[Verdict.A, Verdict.B])
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINED)
    run = add_run(opened)
    add_policy(world.study, run=run)
    return run, pairs


def page(world: PageWorld) -> str:
    response = world.lead.get(world.url("rounds/1/runs/1/"))
    assert response.status_code == 200
    return response.content.decode()


def write_steps(run: Run, count: int, **last: float) -> None:
    """The first step is usual, the others have `last` in them."""
    first = {**STEP, "step": 1}
    write_metrics(run, [first, *({**STEP, **last, "step": number} for number in range(2, count + 1))])


def directory_of(run: Run) -> Path:
    directory = Path(settings.STUDIO_HOME) / run.directory
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def write_contradictions(run: Run, *rows: tuple[str, float, float]) -> None:
    lines = [
        json.dumps({"id": id, "margin_before": before, "margin_after": after}) for id, before, after in rows
    ]
    (directory_of(run) / "contradictions.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            {"loss": 40.0},
            "<strong>Divergence.</strong> The loss rose from 0.69 to 40 (mean of steps 3 to 12)",
        ),
        ({"length_margin_correlation": 0.9}, "<strong>Length.</strong> The margin follows the difference in"),
        (
            {"absolute_log_ratio_per_token": 1.8},
            "<strong>Distance.</strong> On its training texts its log-probs are 1.80 nats a token away",
        ),
        (
            {"log_ratio_per_token/chosen": -0.2, "rewards/margins": 0.5},
            "<strong>Likelihood displacement.</strong> The margin grew by 0.4",
        ),
    ],
)
def test_a_run_that_goes_wrong_says_so_while_it_goes_on(
    world: PageWorld, figures: dict[str, float], said: str
) -> None:
    run = training_run(world)
    write_steps(run, 12)
    assert "alarms" not in page(world)
    write_steps(run, 12, **figures)
    assert said in page(world)
    assert said in world.lead.get(world.url("rounds/1/live/?run=1")).content.decode()


def test_only_the_latest_of_many_steps_are_read_for_alarms(world: PageWorld) -> None:
    run = training_run(world)
    usual, wild = {**STEP, "loss": 0.6}, {**STEP, "loss": 50.0}
    rows = [{**(wild if 100 < number < 2000 else usual), "step": number} for number in range(1, 3001)]
    write_metrics(run, rows)
    assert run_alarms(run) == []
    write_metrics(run, [*rows, *({**wild, "step": number} for number in range(3001, 3010))])
    assert [alarm.name for alarm in run_alarms(run)] == ["Divergence"]


def test_what_the_trainer_warned_of_stays_on_the_page_of_the_ended_run(world: PageWorld) -> None:
    run, _ = trained_run(world)
    warnings = ["no change: the policy says its training texts as it did before", "out of the ordinary"]
    Run.objects.filter(pk=run.pk).update(result={**RESULT, "warnings": warnings})
    html = page(world)
    assert "<strong>No change.</strong> The policy says its training texts as it did before." in html
    assert "<strong>Warning.</strong> out of the ordinary." in html


def without_last_look(world: PageWorld, *, state: Job.State) -> Run:
    """A run whose policy is there, and whose last look is in a state."""
    run, _ = trained_run(world)
    run.refresh_from_db()
    early = {**RESULT, "train_accuracy": None, "train_margin": None}
    Run.objects.filter(pk=run.pk).update(result=early)
    assert run.policy is not None
    look = create_last_look(policy=run.policy, examples=40)
    Job.objects.filter(pk=look.pk).update(state=state, done=12)
    return run


def test_a_run_waits_for_its_last_look_with_progress(world: PageWorld) -> None:
    run = without_last_look(world, state=Job.State.RUNNING)
    html = page(world)
    assert "Every example is looked at once more, 12 of 40; accuracy, margin" in html
    assert "<dt>Accuracy</dt>" not in html
    assert "Cancel the last look" in html
    assert "Known after the last look at every example" in html
    write_steps(run, 12, absolute_log_ratio_per_token=1.8)
    assert "<strong>Distance.</strong>" in page(world)


def test_a_last_look_that_failed_can_be_taken_again(world: PageWorld) -> None:
    without_last_look(world, state=Job.State.FAILED)
    html = page(world)
    assert "accuracy and margin after training are not known" in html
    assert ">Look again</button>" in html
    assert "The policy stays as it is" in html


def test_the_most_contradicted_examples_are_one_click_from_review(world: PageWorld) -> None:
    run, pairs = trained_run(world)
    edit = Preference.objects.get(pair=pairs[1])
    write_contradictions(
        run,
        (f"pair-{pairs[0].pk}", 0.0, -1.25),
        (f"edit-{edit.pk}-other", 0.1, 0.5),
        ("pair-999999", 0.0, 0.7),
    )
    html = page(world)
    listed = f"{pairs[0].pk},{pairs[1].pk}"
    assert f'href="{world.url(f"review/{pairs[0].pk}/")}?pairs={listed}&amp;back=' in html
    assert f">Pair {pairs[0].pk}</a>" in html
    assert f"Edit of pair {pairs[1].pk}</a>" in html
    assert "−1.250" in html
    assert "1 A" in html
    assert "Deleted since." in html
    assert html.count("is-contradicted") == 1


def test_what_the_lead_has_decided_waits_no_longer(world: PageWorld) -> None:
    run, pairs = trained_run(world)
    edit = Preference.objects.get(pair=pairs[1])
    write_contradictions(run, (f"pair-{pairs[0].pk}", 0.0, -1.25), (f"edit-{edit.pk}-other", 0.1, -0.5))
    assert contradicted(run) == Contradicted(count=2, decided=0)
    resolve_pair(pair=pairs[1], verdict=Verdict.TIE, note="", actor=world.lead_user)
    assert contradicted(run) == Contradicted(count=2, decided=1)
    html = page(world)
    assert html.count("decided: tie") == 1
    home = world.lead.get(world.url("")).content.decode()
    assert "implicit reward after training (decided already: 1)" in home
    write_contradictions(run, (f"pair-{pairs[0].pk}", 0.0, 0.25))
    assert contradicted(run) == Contradicted(count=0, decided=0)


def test_examples_that_are_not_contradicted_stand_apart_as_the_closest_calls(world: PageWorld) -> None:
    run, pairs = trained_run(world)
    lowest = [(f"pair-{pair.pk}", 0.0, margin) for pair, margin in zip(pairs[:2], (-1.25, 0.0), strict=True)]
    write_contradictions(run, *lowest, ("pair-999999", 0.0, 0.7))
    html = page(world)
    assert html.count("Closest calls") == 1
    before, after = html.split("Closest calls")
    assert f">Pair {pairs[0].pk}</a>" in before.split("margins-title")[-1]
    assert f">Pair {pairs[1].pk}</a>" in after
    assert "pair-999999" in after
    write_contradictions(run, lowest[0])
    assert "Closest calls" not in page(world)


def test_result_is_a_list_of_keys_with_their_values(world: PageWorld) -> None:
    trained_run(world)
    html = page(world)
    assert '<dt class="mono">versions.torch</dt><dd>2.13.0</dd>' in html
    assert '<dt class="mono">loss_last</dt><dd>0.41</dd>' in html


def test_the_loss_shown_is_a_mean_over_steps_where_the_result_has_one(world: PageWorld) -> None:
    run, _ = trained_run(world)
    assert "<dt>Loss, first and last step</dt><dd>0.693 → 0.410</dd>" in page(world)
    means = {"loss_start": 0.734, "loss_end": 0.084, "loss_steps": 10}
    Run.objects.filter(pk=run.pk).update(result={**RESULT, **means})
    assert "<dt>Loss, first and last 10 steps</dt><dd>0.734 → 0.084</dd>" in page(world)
    rounds = world.lead.get(world.url("rounds/1/")).content.decode()
    assert 'title="Mean of the last 10 steps">0.084</td>' in rounds


def test_negative_figures_in_warnings_have_the_sign_of_minus(world: PageWorld) -> None:
    run, _ = trained_run(world)
    warning = "likelihood displacement: the margin grew by 4e-05, chosen became less likely (-0.556 nats)"
    Run.objects.filter(pk=run.pk).update(result={**RESULT, "warnings": [warning]})
    assert "The margin grew by 4e-05, chosen became less likely (−0.556 nats)." in page(world)


def test_margins_wait_for_the_end_of_the_run(world: PageWorld) -> None:
    training_run(world)
    assert "Known after the last look at every example, which follows the last step." in page(world)


def test_a_cancelled_run_resumes_from_its_last_whole_checkpoint(world: PageWorld) -> None:
    run = training_run(world, state=Job.State.CANCELLED)
    assert "Start again" in page(world)
    for name in ("step-00000020", "step-00000040", "step-00000060.tmp", "best-00000080"):
        (directory_of(run) / "checkpoints" / name).mkdir(parents=True)
    assert last_checkpoint(run) == 40
    assert "Resume from step 40" in page(world)
    assert f'action="{world.url(f"jobs/{run.job.pk}/retry/")}"' in page(world)


def test_a_running_run_can_be_cancelled_from_its_page_by_a_lead_alone(world: PageWorld) -> None:
    run = training_run(world, done=3, total=10)
    html = page(world)
    assert f'action="{world.url(f"jobs/{run.job.pk}/cancel/")}"' in html
    assert "No policy comes of this run." in html
    viewer = world.viewer.get(world.url("rounds/1/runs/1/")).content.decode()
    assert "/cancel/" not in viewer
    assert "Duplicate" not in viewer


def test_the_page_polls_while_the_run_is_under_way_and_stops_afterwards(world: PageWorld) -> None:
    run = training_run(world)
    live = world.url("rounds/1/runs/1/live/")
    assert world.lead.get(live).status_code == 200
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    assert world.lead.get(live).status_code == 286


def test_every_live_part_stands_in_the_page_too(world: PageWorld) -> None:
    training_run(world)
    full, live = page(world), world.lead.get(world.url("rounds/1/runs/1/live/")).content.decode()
    ids = {part.split('"')[0] for part in live.split('id="')[1:] if "hx-swap-oob" in part.split(">")[0]}
    assert ids == {"live-poll", "live-run-job", "live-run-head", "live-run-result", "live-run-margins"}
    assert all(f'id="{name}"' in full for name in ids)


def test_the_receipt_states_the_rules(world: PageWorld) -> None:
    run, _ = trained_run(world)
    words = ["Ties are trained with p = ½."]
    Run.objects.filter(pk=run.pk).update(receipt={**run.receipt, "rule_words": words, "soft": 0, "even": 2})
    html = page(world)
    assert "<li>Ties are trained with p = ½.</li>" in html
    assert "of them even, at p = ½" in html
    assert "soft label" not in html


def test_the_page_needs_as_many_queries_for_one_example_as_for_many(world: PageWorld) -> None:
    run, pairs = trained_run(world)

    def queries() -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            page(world)
        return len(captured)

    write_contradictions(run, (f"pair-{pairs[0].pk}", 0.0, 0.1))
    alone = queries()
    names = [f"pair-{pk}" for pk in Pair.objects.values_list("pk", flat=True)]
    write_contradictions(run, *((name, 0.0, 0.1) for name in names))
    assert queries() == alone <= 14
