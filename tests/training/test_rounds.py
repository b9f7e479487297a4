"""Opening a round, training on it, and why either is refused."""

import pytest

from annotate.models import Pair, Study, Verdict
from tests.training.factories import attempt_of, label, make_response, make_study, make_user
from tests.training.loop import fill_round, label_round, sampling_claim, target_of
from training.models import Job, Policy, Round, Run
from training.selectors.readiness import round_readiness
from training.services.jobs import (
    JobCancelled,
    claim_attempt,
    fail_attempt,
    request_cancel,
    retry_job,
)
from training.services.rounds import RoundRefused, open_round, start_training
from training.services.run_directories import absolute
from training.services.slots import missing_slots, store_response

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def study() -> Study:
    return make_study(train=4, heldout=2, minimum_labels=2)


@pytest.fixture
def labelled(study: Study) -> Round:
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.A])
    return opened


def test_open_round_samples_train_prompts_and_queues_held_out_behind(study: Study) -> None:
    lead = make_user("lead")
    opened = open_round(study=study, actor=lead)
    sampling, heldout = Job.objects.order_by("pk")
    assert (opened.number, opened.state, opened.sampled_policy.number) == (1, Round.State.COLLECTING, 0)
    assert opened.opened_by == lead
    assert (sampling.kind, sampling.round, sampling.total, sampling.unit) == (
        "sampling",
        opened,
        8,
        "responses",
    )
    assert (heldout.kind, heldout.policy, heldout.total) == ("heldout", opened.sampled_policy, 4)
    study.refresh_from_db()
    assert study.queue_notice == "Round 1 is being sampled; new pairs arrive while that goes on."


def test_second_press_of_open_round_is_told_that_it_is_open(study: Study) -> None:
    open_round(study=study)
    with pytest.raises(RoundRefused, match="Round 1 is already open"):
        open_round(study=study)
    assert Round.objects.count() == 1
    assert Job.objects.count() == 2


def test_study_without_training_prompts_cannot_open_a_round() -> None:
    study = make_study(train=0, heldout=2)
    with pytest.raises(RoundRefused, match="has no training prompts; import a prompt file"):
        open_round(study=study)


def test_paused_study_cannot_open_a_round(study: Study) -> None:
    study.state = Study.State.PAUSED
    study.save()
    with pytest.raises(RoundRefused, match="is paused; make it active"):
        open_round(study=study)


def test_round_without_enough_labels_says_how_many_are_missing(study: Study) -> None:
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.TIE])
    readiness = round_readiness(opened)
    assert (readiness.ready, readiness.usable, readiness.needed) == (False, 1, 2)
    assert readiness.sentence == "1 of 2 usable preferences; label at least 1 more pair."
    with pytest.raises(RoundRefused, match=r"1 of 2 usable preferences; label at least 1 more pair\."):
        start_training(round=opened)
    opened.refresh_from_db()
    assert opened.state == Round.State.COLLECTING
    assert not Run.objects.exists()
    assert not Pair.objects.filter(state=Pair.State.FROZEN).exists()


def test_training_freezes_the_labels_into_a_run_directory(labelled: Round) -> None:
    run = start_training(round=labelled)
    labelled.refresh_from_db()
    directory = absolute(run.directory)
    assert labelled.state == Round.State.TRAINING
    assert sorted(path.name for path in directory.iterdir()) == ["config.json", "examples.jsonl"]
    assert run.directory.startswith(f"runs/{labelled.study.slug}/round-1-run-1-")
    assert run.receipt["usable"] == 3
    assert run.receipt["left_out"]["unlabelled"] == 1
    assert set(Pair.objects.values_list("state", flat=True)) == {Pair.State.FROZEN}
    assert (run.job.kind, run.job.state, run.job.total) == (Job.Kind.RUN, Job.State.QUEUED, 2)


def test_training_stops_sampling_and_no_pair_comes_after_the_freeze(study: Study) -> None:
    opened = open_round(study=study)
    claim, target = sampling_claim(opened), target_of(opened)
    slots = missing_slots(target)
    for slot in slots[:6]:
        store_response(claim, target=target, slot=slot, new=make_response(f"{slot}"))
    label_round(opened, verdicts=[Verdict.A, Verdict.A])
    readiness = round_readiness(opened)
    assert readiness.ready
    assert readiness.note.startswith("Sampling is still going on (3 of 4 pairs); training now stops it")
    start_training(round=opened)
    with pytest.raises(JobCancelled):
        store_response(claim, target=target, slot=slots[6], new=make_response("late"))
    assert Pair.objects.count() == 3


def test_second_press_of_train_is_told_that_it_trains(labelled: Round) -> None:
    start_training(round=labelled)
    with pytest.raises(RoundRefused, match="Round 1 is already training"):
        start_training(round=labelled)
    assert Run.objects.count() == 1


def test_failed_run_can_be_followed_by_one_with_a_changed_recipe(labelled: Round) -> None:
    first = start_training(round=labelled)
    fail_attempt(claim_attempt(attempt_of(first.job).pk), cause="Out of memory.")
    recipe = labelled.study.recipe
    recipe.pairs_per_step = 1
    recipe.save()
    second = start_training(round=Round.objects.get(pk=labelled.pk))
    assert (second.number, second.config["optimizer"]["pairs_per_step"]) == (2, 1)


def test_cancelled_run_can_be_retried(labelled: Round) -> None:
    run = start_training(round=labelled)
    request_cancel(job=run.job)
    retry_job(job=Job.objects.get(pk=run.job.pk))
    run.job.refresh_from_db()
    assert run.job.state == Job.State.QUEUED


def test_next_round_closes_the_trained_one_and_samples_its_policy(labelled: Round) -> None:
    study = labelled.study
    Round.objects.filter(pk=labelled.pk).update(state=Round.State.TRAINED)
    policy = Policy.objects.create(study=study, number=1, served_name="p1", parent=labelled.sampled_policy)
    second = open_round(study=study)
    labelled.refresh_from_db()
    assert (labelled.state, labelled.chosen_policy) == (Round.State.CLOSED, policy)
    assert (second.number, second.sampled_policy) == (2, policy)
    assert Job.objects.filter(kind=Job.Kind.HELDOUT, policy=policy).count() == 1


def test_round_that_trains_blocks_the_next_one(labelled: Round) -> None:
    start_training(round=labelled)
    with pytest.raises(RoundRefused, match="Round 1 is training"):
        open_round(study=labelled.study)


def test_trained_round_is_not_trained_again(labelled: Round) -> None:
    Round.objects.filter(pk=labelled.pk).update(state=Round.State.TRAINED)
    labelled.refresh_from_db()
    readiness = round_readiness(labelled)
    assert (readiness.ready, readiness.sentence) == (False, "Round 1 has been trained; open the next round.")


def test_labels_of_earlier_rounds_do_not_make_a_round_ready(labelled: Round) -> None:
    Round.objects.filter(pk=labelled.pk).update(state=Round.State.TRAINED)
    Policy.objects.create(study=labelled.study, number=1, served_name="p1")
    second = open_round(study=labelled.study)
    fill_round(second)
    label_round(second, verdicts=[Verdict.A])
    assert round_readiness(second).sentence == "1 of 2 usable preferences; label at least 1 more pair."
    pair = Pair.objects.filter(batch=2).order_by("pk")[1]
    label(pair, annotator=make_user("annotator"))
    assert round_readiness(second).sentence == "2 usable preferences are ready (2 are needed)."
    assert start_training(round=second).receipt["usable"] == 5
