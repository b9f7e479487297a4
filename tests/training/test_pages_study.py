"""The study home: where the loop stands, the one next action, and what moves by itself."""

import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotate.models import Flag, Lease, Pair, Role, Verdict
from annotate.services.flags import flag_pair
from annotate.services.queue import lease_next_pair
from annotate.services.studies import add_member
from tests.training.evaluation.world import answer_all, judged_policy, reference_of, trained_policy
from tests.training.factories import label, make_round, make_user
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, add_job, add_policy, add_run, page_world, write_metrics
from training.models import Attempt, Job, Round
from training.services.evaluation_pairs import ask_for_more
from training.services.rounds import open_round

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def page(world: PageWorld) -> str:
    response = world.lead.get(world.url())
    assert response.status_code == 200
    return response.content.decode()


def next_button(html: str) -> str:
    """The tag and the text of the page's one primary action."""
    found = re.search(r'<(button|a)[^>]*id="next-button"[^>]*>([^<]*)<', html)
    assert found, "the page has no next action"
    return found.group(2)


def collecting_round(world: PageWorld, *, verdicts: list[Verdict]) -> Round:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=verdicts)
    return opened


def test_study_without_a_round_offers_to_open_round_1(world: PageWorld) -> None:
    html = page(world)
    assert next_button(html) == "Open round 1"
    assert "Samples responses to 4 training prompts from the SFT reference." in html
    assert f'action="{world.url("rounds/open/")}"' in html
    assert (
        f'id="next-demonstrations" role="button" class="secondary" href="{world.url("demonstrations/")}"'
        in html
    )


def test_study_without_training_prompts_asks_for_them_first() -> None:
    world = page_world(train=0)
    html = page(world)
    assert next_button(html) == "Import prompts"
    assert "rounds/open" not in html


def test_viewer_reads_the_page_but_is_offered_no_action(world: PageWorld) -> None:
    collecting_round(world, verdicts=[Verdict.A])
    html = world.viewer.get(world.url()).content.decode()
    assert "usable preferences" in html
    assert "next-button" not in html
    assert f'action="{world.url()}' not in html


@pytest.mark.parametrize(("who", "status"), [("viewer", 200), ("annotator", 403), ("outsider", 404)])
def test_study_home_is_for_leads_and_viewers(world: PageWorld, who: str, status: int) -> None:
    for rest in ("", "live/"):
        assert getattr(world, who).get(world.url(rest)).status_code in (
            status,
            286 if status == 200 else status,
        )


def test_round_without_enough_labels_says_how_many_are_missing(world: PageWorld) -> None:
    collecting_round(world, verdicts=[Verdict.A])
    html = page(world)
    assert next_button(html) == "Label pairs"
    assert "1 of 2 usable preferences; label at least 1 more pair." in html


def test_round_with_enough_labels_offers_to_train(world: PageWorld) -> None:
    collecting_round(world, verdicts=[Verdict.A, Verdict.B])
    html = page(world)
    assert next_button(html) == "Train on round 1…"
    assert "2 labels could still be given" in html


def test_second_round_asks_for_labels_of_its_own_before_it_offers_to_train(world: PageWorld) -> None:
    first = collecting_round(world, verdicts=[Verdict.A, Verdict.B])
    add_policy(world.study, run=add_run(first))
    Round.objects.filter(pk=first.pk).update(state=Round.State.TRAINED)
    second = open_round(study=world.study)
    fill_round(second)
    assert next_button(page(world)) == "Label pairs"
    label_round(second, verdicts=[Verdict.A, Verdict.B])
    assert next_button(page(world)) == "Train on round 2…"


def test_ready_round_that_is_still_sampled_warns_that_training_stops_it(world: PageWorld) -> None:
    opened = collecting_round(world, verdicts=[Verdict.A, Verdict.B])
    opened.jobs.filter(kind=Job.Kind.SAMPLING).update(state=Job.State.RUNNING)
    html = page(world)
    assert next_button(html) == "Label pairs"
    assert "training now stops it" in html
    assert "Train now" in html


def test_failed_sampling_shows_its_cause_and_a_retry(world: PageWorld) -> None:
    item = make_round(world.study)
    job = add_job(
        world.study, kind=Job.Kind.SAMPLING, state=Job.State.FAILED, round=item, cause="The engine is <gone>."
    )
    html = page(world)
    assert next_button(html) == "Sample the rest"
    assert "The engine is &lt;gone&gt;." in html
    assert f'action="{world.url(f"jobs/{job.pk}/retry/")}"' in html


def test_failed_run_leads_to_another_one_with_its_cause(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINING)
    add_run(item, state=Job.State.FAILED, cause="The loss became NaN; lower the learning rate.")
    html = page(world)
    assert next_button(html) == "Train again…"
    assert "The loss became NaN; lower the learning rate." in html
    assert "Training failed" in html


def test_trained_round_offers_the_next_round_and_the_comparison(world: PageWorld) -> None:
    item = make_round(world.study, state=Round.State.TRAINED)
    policy = add_policy(world.study, run=add_run(item, done=3, total=3))
    add_job(world.study, kind=Job.Kind.HELDOUT, state=Job.State.RUNNING, policy=policy, done=1, total=4)
    html = page(world)
    assert next_button(html) == "Open round 2"
    assert "from Policy 1." in html
    assert "1 of 4 responses" in html
    assert "90\N{NO-BREAK SPACE}%" in html


def test_running_job_has_progress_and_a_cancel_that_says_what_it_means(world: PageWorld) -> None:
    item = make_round(world.study)
    job = add_job(
        world.study,
        kind=Job.Kind.SAMPLING,
        state=Job.State.RUNNING,
        round=item,
        done=3,
        total=8,
        message="Asking.",
    )
    html = page(world)
    assert "3 / 8 responses" in html
    assert f'action="{world.url(f"jobs/{job.pk}/cancel/")}"' in html
    assert "Pairs that exist stay and can be labelled" in html


def test_worker_that_stopped_reporting_is_shown_before_its_lease_ends(world: PageWorld) -> None:
    job = add_job(
        world.study, kind=Job.Kind.SAMPLING, state=Job.State.RUNNING, round=make_round(world.study), total=8
    )
    assert "not been heard from" not in page(world)
    lease = timezone.now() + timedelta(seconds=13)  # renewed 17 s ago: five heartbeats are missing
    Attempt.objects.filter(job=job).update(lease_until=lease)
    assert re.search(r"Its worker has not been heard from for (1|2)\d\N{NO-BREAK SPACE}s\.", page(world))


def test_labels_of_a_simulated_annotator_are_marked_wherever_they_are_counted(world: PageWorld) -> None:
    rule = make_user("rule", simulated_rule="shorter")
    add_member(study=world.study, user=rule, role=Role.ANNOTATOR, actor=None)
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.TIE], annotator=rule)
    html = page(world)
    assert "simulated · shorter" in html
    assert "labels, 2 simulated" in html
    assert 'title="2 given by simulated annotators"' in html
    assert "50\N{NO-BREAK SPACE}%" in html  # half of the verdicts are ties


def test_person_who_left_keeps_their_labels_in_the_table(world: PageWorld) -> None:
    collecting_round(world, verdicts=[Verdict.A])
    assert "No longer a member" in page(world)


def test_pairs_that_nobody_works_on_are_named_and_released_in_one_act(world: PageWorld) -> None:
    collecting_round(world, verdicts=[])
    ana, ben = (make_user(name) for name in ("ana", "ben"))
    for user in (ana, ben):
        add_member(study=world.study, user=user, role=Role.ANNOTATOR, actor=None)
        lease_next_pair(study=world.study, annotator=user)
    assert "release-left" not in page(world)
    Lease.objects.filter(annotator=ana).update(expires_at=timezone.now() - timedelta(seconds=1))
    ben.memberships.all().delete()
    html = page(world)
    assert "2 pairs are held though nobody works on them" in html
    assert "(Ana 1, Ben 1)" in html
    assert "release-left" not in world.viewer.get(world.url()).content.decode()
    answer = world.lead.post(world.url("leases/release/"), follow=True)
    assert answer.redirect_chain == [(world.url(), 302)]
    assert "2 pairs are in the queue again (held by: Ana 1, Ben 1)." in answer.content.decode()
    assert "release-left" not in page(world)
    assert not Lease.objects.exists()
    again = world.lead.post(world.url("leases/release/"), follow=True).content.decode()
    assert "Nothing was left to release: every held pair is being worked on." in again


def test_live_parts_swap_themselves_and_go_on_while_a_job_runs(world: PageWorld) -> None:
    add_job(
        world.study, kind=Job.Kind.SAMPLING, state=Job.State.RUNNING, round=make_round(world.study), total=8
    )
    response = world.lead.get(world.url("live/"))
    html = response.content.decode()
    assert response.status_code == 200
    assert html.count('hx-swap-oob="true"') == html.count("data-live") == 9
    assert "every 2s" in html


def test_live_parts_are_asked_for_less_often_while_people_label(world: PageWorld) -> None:
    collecting_round(world, verdicts=[Verdict.A])
    Job.objects.exclude(state=Job.State.DONE).delete()
    response = world.lead.get(world.url("live/"))
    assert response.status_code == 200
    assert "every 10s" in response.content.decode()


def test_polling_ends_when_nothing_moves(world: PageWorld) -> None:
    response = world.lead.get(world.url("live/"))
    assert response.status_code == 286
    assert "every 2s" not in response.content.decode()


def test_study_home_needs_as_many_queries_for_five_rounds_as_for_one(world: PageWorld) -> None:
    def trained_round(number: int) -> None:
        item = make_round(world.study, number=number, state=Round.State.CLOSED)
        fill_and_label(item)
        policy = add_policy(world.study, number=number, run=add_run(item))
        for kind in (Job.Kind.HELDOUT, Job.Kind.SCORING):
            add_job(world.study, kind=kind, state=Job.State.DONE, policy=policy)

    def fill_and_label(item: Round) -> None:
        add_job(world.study, kind=Job.Kind.SAMPLING, state=Job.State.QUEUED, round=item)
        fill_round(item)
        label_round(item, verdicts=[Verdict.A, Verdict.B, Verdict.TIE])

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            page(world)
        return len(captured)

    trained_round(1)
    queries()
    few = queries()
    for number in range(2, 6):
        trained_round(number)
    queries()
    assert queries() == few
    assert few <= 39


def judged_world() -> PageWorld:
    world = page_world(heldout=24)
    answer_all(reference_of(world.study), text="the reference says {} to it".format)
    return world


def test_home_says_whether_the_newest_policy_is_better_with_interval_length_and_gate() -> None:
    world = judged_world()
    judged_policy(world.study, won=lambda row: row.prompt_id % 6 != 0)
    html = page(world).replace("\N{NO-BREAK SPACE}", " ")
    assert "Policy 1 is better than the SFT reference: people prefer it in 83 %" in html
    assert "24 prompts judged" in html
    assert "0.67 ×" in html  # four words against six
    assert "Not known yet" in html  # nothing has been scored
    assert "checks cannot be decided yet" in html


def test_policy_that_fails_its_gate_is_looked_at_before_the_next_round() -> None:
    world = judged_world()
    judged_policy(world.study, won=lambda row: False)
    html = page(world).replace("\N{NO-BREAK SPACE}", " ")
    assert next_button(html) == "Open round 2 with a reason…"
    assert f'href="{world.url("policies/1/#gate")}"' in html
    assert "Policy 1 fails its gate: It wins only 0 %" in html
    refused = world.lead.post(world.url("rounds/open/"))
    assert refused["Location"].startswith(world.url("policies/1/"))


def test_home_goes_on_asking_while_blind_pairs_are_being_judged() -> None:
    world = judged_world()
    policy = trained_policy(world.study, number=1)
    answer_all(policy, text="policy {}".format)
    ask_for_more(policy=policy, pairs=5, actor=None)
    assert world.lead.get(world.url("live/")).status_code == 200
    assert "5 pairs to judge" in page(world)


def test_ready_counts_conflicts_and_the_queues_lead_to_them(world: PageWorld) -> None:
    opened = open_round(study=world.study)
    fill_round(opened)
    pair = Pair.objects.filter(study=world.study, batch=1).earliest("pk")
    Pair.objects.filter(pk=pair.pk).update(labels_wanted=2)
    pair.refresh_from_db()
    for name, verdict in (("ann", Verdict.A), ("bob", Verdict.B)):
        preference = label(pair, annotator=make_user(name), verdict=verdict)
    flag_pair(pair=pair, annotator=preference.annotator, reason=Flag.Reason.BROKEN, note="")
    html = page(world)
    assert "0 of 2 usable; 1 conflict" in html
    assert "review/?kind=conflicts&amp;batch=1" in html
    assert "review/?kind=flags" in html


def test_health_is_that_of_the_round_at_work(world: PageWorld) -> None:
    first = collecting_round(world, verdicts=[Verdict.TIE])
    Round.objects.filter(pk=first.pk).update(state=Round.State.CLOSED)
    collecting_round(world, verdicts=[Verdict.A, Verdict.B])
    health = page(world).partition('id="live-health"')[2].partition("</section>")[0]
    assert "of 2; 50 % is no habit" in health
    assert "Tie" not in health


def test_only_the_newest_rounds_are_listed_until_all_are_asked_for(world: PageWorld) -> None:
    for number in range(1, 9):
        make_round(world.study, number=number, state=Round.State.CLOSED)
    html = page(world)
    assert "Show 2 earlier rounds" in html
    assert world.url("rounds/2/") not in html
    everything = world.lead.get(world.url("?rounds=all")).content.decode()
    assert world.url("rounds/1/") in everything
    assert world.url("live/?rounds=all") in everything


def test_running_run_shows_its_loss_and_what_it_said_last(world: PageWorld) -> None:
    run = add_run(make_round(world.study, state=Round.State.TRAINING), state=Job.State.RUNNING, total=9)
    path = write_metrics(run, [{"step": step, "loss": 0.7 - step / 100} for step in range(1, 17)])
    (path.parent / "train.log").write_text("one\ntwo\nthree\nfour <b>\n")
    html = page(world)
    assert 'points="0.0,1.0' in html
    assert "Loss from step 1 to 16, of late 0.585" in html
    assert "two\nthree\nfour &lt;b&gt;</pre>" in html
