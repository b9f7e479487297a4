"""The round page and the two buttons of the loop: open a round, train on it."""

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Verdict
from tests.training.factories import make_round
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_job, add_policy, add_run, page_world
from training.models import Job, Round, Run
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def labelled_round(world: PageWorld, *verdicts: Verdict) -> Round:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=verdicts)
    return opened


def page(world: PageWorld, number: int = 1) -> str:
    response = world.lead.get(world.url(f"rounds/{number}/"))
    assert response.status_code == 200
    return response.content.decode()


def test_open_round_opens_it_and_says_so(world: PageWorld) -> None:
    response = world.lead.post(world.url("rounds/open/"), follow=True)
    assert response.redirect_chain == [(world.url(), 302)]
    assert "Round 1 is open" in response.content.decode()
    assert world.study.rounds.get().opened_by == world.lead_user


def test_second_press_of_open_round_is_answered_with_the_reason(world: PageWorld) -> None:
    world.lead.post(world.url("rounds/open/"))
    response = world.lead.post(world.url("rounds/open/"), follow=True)
    assert "Round 1 is already open; train it before the next one." in response.content.decode()
    assert world.study.rounds.count() == 1


@pytest.mark.parametrize("rest", ["rounds/open/", "rounds/1/train/", "jobs/1/cancel/", "jobs/1/retry/"])
def test_reading_a_url_that_changes_something_is_refused(world: PageWorld, rest: str) -> None:
    assert world.lead.get(world.url(rest)).status_code == 405


@pytest.mark.parametrize(
    "rest", ["rounds/7/", "rounds/7/live/", "rounds/7/runs/1/metrics/", "rounds/7/runs/1/log/"]
)
def test_round_that_does_not_exist_is_not_found(world: PageWorld, rest: str) -> None:
    assert world.lead.get(world.url(rest)).status_code == 404
    assert world.lead.post(world.url("rounds/7/train/")).status_code == 404


def test_round_page_shows_what_training_would_use_and_with_which_settings(world: PageWorld) -> None:
    labelled_round(world, Verdict.A, Verdict.B, Verdict.TIE)
    html = page(world)
    assert "2 usable preferences are ready (2 are needed)." in html
    assert "left out: ties" in html
    assert "About 2 optimiser steps." in html  # 2 preferences are one step of 8; two epochs
    assert "β <strong>0.1</strong>" in html
    assert "learning rate <strong>5e-5</strong>" in html
    assert "Starts from the SFT reference" in html
    assert " disabled" not in html


def test_round_without_a_verdict_says_so_in_words(world: PageWorld) -> None:
    opened = open_round(study=world.study)
    assert "There is no pair to judge yet." in page(world)
    fill_round(opened)
    assert "No verdict yet." in page(world)


def test_train_button_waits_for_enough_labels(world: PageWorld) -> None:
    labelled_round(world, Verdict.A)
    html = page(world)
    assert "1 of 2 usable preferences; label at least 1 more pair." in html
    assert 'data-busy="Starting…" disabled>' in html


def test_low_beta_is_warned_of_before_training(world: PageWorld) -> None:
    world.study.recipe.beta = 0.01
    world.study.recipe.save()
    labelled_round(world, Verdict.A, Verdict.B)
    assert "β = 0.01 is below 0.05: the policy may collapse" in page(world)


def test_train_starts_one_run_and_a_second_press_is_answered(world: PageWorld) -> None:
    labelled_round(world, Verdict.A, Verdict.B)
    response = world.lead.post(world.url("rounds/1/train/"), follow=True)
    assert response.redirect_chain == [(world.url("rounds/1/"), 302)]
    assert "Round 1 trains." in response.content.decode()
    again = world.lead.post(world.url("rounds/1/train/"), follow=True)
    assert "Round 1 is already training." in again.content.decode()
    assert Run.objects.count() == 1


def test_training_without_enough_labels_is_refused_where_the_person_looks(world: PageWorld) -> None:
    labelled_round(world, Verdict.A)
    response = world.lead.post(world.url("rounds/1/train/"), follow=True)
    assert "1 of 2 usable preferences; label at least 1 more pair." in response.content.decode()
    assert not Run.objects.exists()
    assert world.study.rounds.get().state == Round.State.COLLECTING


def test_failed_run_can_be_repeated_or_started_with_the_present_recipe(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINING)
    run = add_run(item, state=Job.State.FAILED, cause="The trainer was killed, probably out of memory.")
    html = page(world)
    assert "The trainer was killed, probably out of memory." in html
    assert f'action="{world.url("rounds/1/train/")}"' in html
    assert f'action="{world.url(f"jobs/{run.job.pk}/retry/")}"' in html


def test_only_the_newest_run_of_a_round_can_be_retried(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINING)
    older = add_run(item, state=Job.State.CANCELLED)
    newer = add_run(item, state=Job.State.FAILED, number=2)
    html = page(world)
    assert f"jobs/{older.job.pk}/retry/" not in html
    assert f"jobs/{newer.job.pk}/retry/" in html


def test_trained_round_shows_result_receipt_config_and_hash(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    add_policy(world.study, run=add_run(item))
    html = page(world)
    for shown in (
        "Preferences trained on",
        "left out: ties",
        "from round 1, weight 1",
        "loss.beta",
        "d" * 64,
    ):
        assert shown in html
    for figure in ("90\N{NO-BREAK SPACE}%", "+1.25", "0.693 → 0.410", "2.13.0"):
        assert figure in html


def test_round_page_polls_while_its_run_trains_and_stops_afterwards(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINING)
    run = add_run(item, state=Job.State.RUNNING, done=1, total=4)
    live = world.url("rounds/1/live/?run=1")
    assert world.lead.get(live).status_code == 200
    assert "every 2s" in page(world)
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    Round.objects.filter(pk=item.pk).update(state=Round.State.TRAINED)
    response = world.lead.get(live)
    assert response.status_code == 286
    assert "HX-Refresh" not in response


def test_page_that_shows_no_run_is_reloaded_when_one_begins(world: PageWorld) -> None:
    add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.QUEUED)
    assert world.lead.get(world.url("rounds/1/live/?run=0"))["HX-Refresh"] == "true"


def test_every_live_part_of_the_round_page_stands_in_the_page_too(world: PageWorld) -> None:
    add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING)
    full, live = page(world), world.lead.get(world.url("rounds/1/live/?run=1")).content.decode()
    ids = {part.split('"')[0] for part in live.split('id="')[1:] if "hx-swap-oob" in part.split(">")[0]}
    assert ids == {
        *("live-poll", "live-loop", "live-labels", "live-jobs", "live-round-runs", "train"),
        *("live-run-head", "live-run-result"),
    }
    assert all(f'id="{name}"' in full for name in ids)


def test_viewer_sees_the_round_without_its_buttons(world: PageWorld) -> None:
    labelled_round(world, Verdict.A, Verdict.B)
    html = world.viewer.get(world.url("rounds/1/")).content.decode()
    assert "2 usable preferences are ready" in html
    assert "train-button" not in html
    assert "/cancel/" not in html


@pytest.mark.parametrize(("who", "status"), [("annotator", 403), ("outsider", 404)])
def test_round_page_is_for_leads_and_viewers(world: PageWorld, who: str, status: int) -> None:
    make_round(world.study)
    assert getattr(world, who).get(world.url("rounds/1/")).status_code == status


def test_cancel_and_retry_go_back_to_the_page_they_came_from(world: PageWorld) -> None:
    item = make_round(world.study)
    job = add_job(world.study, kind=Job.Kind.SAMPLING, state=Job.State.QUEUED, round=item)
    here = world.url("rounds/1/")
    response = world.lead.post(world.url(f"jobs/{job.pk}/cancel/"), {"next": here}, follow=True)
    assert response.redirect_chain == [(here, 302)]
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    response = world.lead.post(world.url(f"jobs/{job.pk}/retry/"), {"next": "https://elsewhere.example/"})
    assert response["Location"] == world.url()
    job.refresh_from_db()
    assert (job.state, job.attempt_number) == (Job.State.QUEUED, 2)


def test_cancelling_a_job_that_has_ended_is_answered_with_the_reason(world: PageWorld) -> None:
    job = add_job(world.study, kind=Job.Kind.SAMPLING, state=Job.State.DONE, round=make_round(world.study))
    response = world.lead.post(world.url(f"jobs/{job.pk}/cancel/"), follow=True)
    assert "The job is already done; there is nothing to cancel." in response.content.decode()


def test_round_page_needs_as_many_queries_whatever_other_rounds_there_are(world: PageWorld) -> None:
    def queries(number: int) -> int:
        page(world, number)  # what verdicts come to is known from here on
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            page(world, number)
        return len(captured)

    for number in range(1, 6):
        item = make_round(world.study, number=number, state=Round.State.CLOSED)
        add_job(world.study, kind=Job.Kind.SAMPLING, state=Job.State.QUEUED, round=item)
        fill_round(item)
        label_round(item, verdicts=[Verdict.A, Verdict.B])
        add_policy(world.study, number=number, run=add_run(item))
        if number == 1:
            alone = queries(1)
    assert queries(1) <= alone
    assert queries(5) == alone
    assert alone <= 37
