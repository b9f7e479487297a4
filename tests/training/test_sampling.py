"""Slots are filled once each, whatever the engine does; what it answers well is tested on the real engine."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from django.db import connections
from pytest_django import Settings

from annotate.models import Pair, Prompt, Response, Split, Study
from annotate.services.pairs import add_pair, add_response
from tests.support.faulty_engine import HANG, Answer, FaultyEngine, HangUp, Request, faulty_engine, slow
from tests.training.evaluation.world import trained_policy
from tests.training.factories import attempt_of, make_response, make_round, make_study, train_prompts
from tests.training.loop import target_of
from training.jobs import perform_attempt
from training.models import EvaluationPair, Job, Policy, Round, SampledResponse
from training.services import engines
from training.services.jobs import (
    Claim,
    JobCancelled,
    JobFailed,
    claim_attempt,
    create_job,
    replace_lost_attempt,
    request_cancel,
)
from training.services.rounds import open_round
from training.services.sampling import sample_heldout, sample_round
from training.services.slots import MOST_RESAMPLES, Slot, Stored, missing_slots, pair_up, store_response

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]
BASE = "/models/base"


@pytest.fixture
def engine(settings: Settings) -> Iterator[FaultyEngine]:
    with faulty_engine(base_model=BASE) as engine:
        settings.VLLM_URLS = [engine.url]
        settings.SAMPLING_CONCURRENCY = 4
        yield engine


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.05)


@pytest.fixture
def study() -> Study:
    return make_study(train=6, heldout=3, base_model=BASE)


@pytest.fixture
def opened(study: Study) -> Round:
    return open_round(study=study)


def sampling_job(opened: Round) -> Job:
    return opened.jobs.get(kind=Job.Kind.SAMPLING)


def claim_of(job: Job) -> Claim:
    return claim_attempt(attempt_of(job).pk)


def run_sampling(opened: Round) -> Job:
    perform_attempt(attempt_of(sampling_job(opened)).pk)
    return sampling_job(opened)


def assert_each_slot_once(opened: Round, *, prompts: int) -> None:
    filled = Counter(SampledResponse.objects.filter(round=opened).values_list("prompt_id", "slot"))
    assert set(filled.values()) == {1}
    assert len(filled) == 2 * prompts
    assert Response.objects.count() == SampledResponse.objects.count()


def test_each_prompt_gets_a_pair_and_the_settings_are_kept(opened: Round, engine: FaultyEngine) -> None:
    job = run_sampling(opened)
    assert (job.state, job.done, job.total, job.cause) == (Job.State.DONE, 12, 12, "")
    assert_each_slot_once(opened, prompts=6)
    pairs = Pair.objects.select_related("response_a", "response_b")
    assert {pair.batch for pair in pairs} == {1}
    assert {pair.prompt.split for pair in pairs} == {Split.TRAIN}
    assert len(pairs) == 6
    for pair in pairs:
        first, second = (
            SampledResponse.objects.get(response=response) for response in (pair.response_a, pair.response_b)
        )
        assert (first.slot, second.slot) == (0, 1)
        assert first.settings["temperature"] == 1.0
        assert first.settings["max_tokens"] == 96
        assert first.seed is None
        assert "seed" not in first.settings
        assert (first.prompt_token_ids, first.token_ids[-1]) == ([1, 5, 6], 2)
        assert len(first.logprobs) == len(first.token_ids)
    assert {request.model for request in engine.requests} == {"base"}
    assert not [request for request in engine.requests if "seed" in request.settings]


def test_no_more_requests_are_in_flight_than_set(opened: Round, engine: FaultyEngine) -> None:
    engine.behaviour = slow(0.05)
    run_sampling(opened)
    assert engine.most_at_once == 4


def test_prompts_are_asked_one_after_the_other_so_that_pairs_come_early(
    opened: Round, engine: FaultyEngine, settings: Settings
) -> None:
    settings.SAMPLING_CONCURRENCY = 1
    run_sampling(opened)
    prompts = [prompt.messages[-1]["content"] for prompt in train_prompts(opened.study)]
    assert [request.prompt for request in engine.requests] == [text for text in prompts for _ in range(2)]


def test_held_out_prompts_are_never_sampled_into_pairs(opened: Round, engine: FaultyEngine) -> None:
    run_sampling(opened)
    perform_attempt(attempt_of(Job.objects.get(kind=Job.Kind.HELDOUT)).pk)
    heldout = SampledResponse.objects.filter(prompt__split=Split.HELDOUT)
    assert heldout.count() == 3 * 2
    assert {sampled.round for sampled in heldout} == {None}
    assert not Pair.objects.filter(prompt__split=Split.HELDOUT).exists()


def test_identical_responses_are_resampled_and_then_dropped_and_counted(
    opened: Round, engine: FaultyEngine
) -> None:
    stubborn = train_prompts(opened.study)[0].messages[-1]["content"]
    engine.behaviour = lambda request: (
        "  the same " if request.prompt == stubborn and request.number % 2 else
        "the same" if request.prompt == stubborn else f"answer {request.number}"
    )  # fmt: skip
    job = run_sampling(opened)
    opened.refresh_from_db()
    assert job.state == Job.State.DONE
    assert opened.pairs_dropped == 1
    assert Pair.objects.count() == 5
    assert_each_slot_once(opened, prompts=6)
    assert sum(request.prompt == stubborn for request in engine.requests) == 2 + MOST_RESAMPLES


def test_second_response_that_differs_at_last_makes_the_pair(opened: Round, engine: FaultyEngine) -> None:
    asked: Counter[str] = Counter()

    def behave(request: Request) -> str:
        asked[request.prompt] += 1
        return "the same" if asked[request.prompt] < 4 else "another"

    engine.behaviour = behave
    run_sampling(opened)
    opened.refresh_from_db()
    assert (Pair.objects.count(), opened.pairs_dropped) == (6, 0)


@pytest.mark.parametrize("fault", ["500", "hang up", "503"])
def test_faults_of_the_engine_are_retried_and_no_slot_is_filled_twice(
    opened: Round, engine: FaultyEngine, fault: str
) -> None:
    def behave(request: Request) -> str:
        if request.number % 3 == 2 and request.number < 20:
            raise HangUp if fault == "hang up" else Answer(int(fault), "EngineCore died")
        return f"answer {request.number}"

    engine.behaviour = behave
    job = run_sampling(opened)
    assert (job.state, job.done) == (Job.State.DONE, 12)
    assert_each_slot_once(opened, prompts=6)
    assert Pair.objects.count() == 6


def test_engine_that_forgot_the_model_is_asked_again(opened: Round, engine: FaultyEngine) -> None:
    def behave(request: Request) -> str:
        if request.number == 3:
            raise Answer(404, "The model does not exist.")
        return f"answer {request.number}"

    engine.behaviour = behave
    assert run_sampling(opened).state == Job.State.DONE
    assert_each_slot_once(opened, prompts=6)


def test_prompt_that_the_engine_refuses_is_left_out_and_named(opened: Round, engine: FaultyEngine) -> None:
    refused = train_prompts(opened.study)[2]

    def behave(request: Request) -> str:
        if request.prompt == refused.messages[-1]["content"]:
            raise Answer(400, "This model's maximum context length is 512 tokens.")
        return f"answer {request.number}"

    engine.behaviour = behave
    job = run_sampling(opened)
    assert job.state == Job.State.DONE
    assert job.message == (
        f"1 prompt was refused by the engine and left out; prompt {refused.pk}: "
        "This model's maximum context length is 512 tokens."
    )
    assert Pair.objects.count() == 5


def test_engine_that_refuses_every_prompt_fails_the_job(opened: Round, engine: FaultyEngine) -> None:
    def behave(request: Request) -> str:
        raise Answer(400, "No chat template.")

    engine.behaviour = behave
    job = run_sampling(opened)
    assert job.state == Job.State.FAILED
    assert job.cause.startswith("The engine refused every prompt. 6 prompts were refused")
    assert "No chat template." in job.cause


def test_engine_that_stays_away_fails_the_job_with_its_cause(
    opened: Round, engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(request: Request) -> str:
        raise Answer(500, "EngineCore died")

    engine.behaviour = behave
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 0.5)
    job = run_sampling(opened)
    assert job.state == Job.State.FAILED
    assert "No engine has answered" in job.cause
    assert "EngineCore died" in job.cause
    assert "retry" in job.cause


def test_engine_with_another_base_model_is_not_sampled_from(
    engine: FaultyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "PATIENCE_SECONDS", 0.3)
    job = run_sampling(open_round(study=make_study(base_model="/models/other")))
    assert job.state == Job.State.FAILED
    assert "Waiting for a server of VLLM_URLS that serves /models/other" in job.cause
    assert engine.requests == []


def test_cancel_reaches_requests_in_flight_within_two_seconds(opened: Round, engine: FaultyEngine) -> None:
    engine.behaviour = lambda request: HANG if request.number >= 2 else f"answer {request.number}"
    job = sampling_job(opened)
    times: list[float] = []

    def cancel() -> None:
        while len(engine.requests) < 6:
            time.sleep(0.02)
        times.append(time.monotonic())
        request_cancel(job=job)
        connections.close_all()

    canceller = threading.Thread(target=cancel)
    claim = claim_of(job)
    canceller.start()
    with pytest.raises(JobCancelled):
        sample_round(claim)
    took = time.monotonic() - times[0]
    canceller.join()
    deadline = time.monotonic() + 2
    while engine.abandoned < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert took < 2
    assert engine.abandoned == 4
    assert SampledResponse.objects.count() == 2


def test_cancelled_sampling_is_continued_by_a_retry(opened: Round, engine: FaultyEngine) -> None:
    claim, target = claim_of(sampling_job(opened)), target_of(opened)
    for slot in missing_slots(target)[:5]:
        store_response(
            claim, target=target, slot=slot, new=make_response(f"earlier {slot.prompt_id} {slot.number}")
        )
    replace_lost_attempt(attempt_of(sampling_job(opened)))
    job = run_sampling(opened)
    assert (job.state, job.done) == (Job.State.DONE, 12)
    assert_each_slot_once(opened, prompts=6)
    assert len(engine.requests) == 12 - 5


def test_slot_that_was_filled_meanwhile_is_left_alone(opened: Round) -> None:
    claim, target = claim_of(sampling_job(opened)), target_of(opened)
    slot = missing_slots(target)[0]
    assert store_response(claim, target=target, slot=slot, new=make_response("one")) is Stored.KEPT
    assert store_response(claim, target=target, slot=slot, new=make_response("two")) is Stored.ALREADY_FILLED
    assert Response.objects.get().text == "one"


def test_two_stored_responses_without_a_pair_get_one(opened: Round) -> None:
    claim, target = claim_of(sampling_job(opened)), target_of(opened)
    for slot in missing_slots(target)[:4]:
        store_response(claim, target=target, slot=slot, new=make_response(f"text {slot}"))
    Pair.objects.all().delete()
    assert pair_up(claim, target=target) == 2
    assert pair_up(claim, target=target) == 0
    pair = Pair.objects.order_by("pk")[0]
    assert pair.response_a.sampled.slot == 0


def test_same_responses_stored_out_of_order_make_the_same_pair(opened: Round) -> None:
    claim, target = claim_of(sampling_job(opened)), target_of(opened)
    prompt = train_prompts(opened.study)[0]
    for number in (1, 0):
        store_response(
            claim, target=target, slot=Slot(prompt.pk, number), new=make_response(f"slot {number}")
        )
    pair = Pair.objects.get()
    assert (pair.response_a.text, pair.response_b.text) == ("slot 0", "slot 1")


def test_cut_response_is_marked(opened: Round) -> None:
    claim, target = claim_of(sampling_job(opened)), target_of(opened)
    slots = missing_slots(target)
    store_response(claim, target=target, slot=slots[0], new=make_response("cut", finish_reason="length"))
    store_response(claim, target=target, slot=slots[1], new=make_response("whole", finish_reason="stop"))
    assert list(Response.objects.order_by("pk").values_list("was_cut", flat=True)) == [True, False]


def test_held_out_settings_stay_those_of_the_first_policy(study: Study, engine: FaultyEngine) -> None:
    reference = study.policies.get()
    perform_attempt(attempt_of(create_job(study=study, kind=Job.Kind.HELDOUT, policy=reference)).pk)
    recipe = study.recipe
    recipe.temperature, recipe.max_new_tokens = 0.3, 16
    recipe.save()
    later = Policy.objects.create(study=study, number=1, served_name="later")
    perform_attempt(attempt_of(create_job(study=study, kind=Job.Kind.HELDOUT, policy=later)).pk)
    used = [
        SampledResponse.objects.filter(policy=policy).order_by("pk")[0].settings
        for policy in (reference, later)
    ]
    assert used[0] == used[1]
    assert used[0]["temperature"] == 1.0


def test_held_out_sampling_makes_way_for_a_round(study: Study, engine: FaultyEngine) -> None:
    engine.behaviour = lambda request: HANG
    heldout = create_job(study=study, kind=Job.Kind.HELDOUT, policy=study.policies.get())
    first = attempt_of(heldout)

    def open_it() -> None:
        while not engine.requests:
            time.sleep(0.02)
        open_round(study=study)
        connections.close_all()

    opener = threading.Thread(target=open_it)
    opener.start()
    perform_attempt(first.pk)
    opener.join()
    heldout.refresh_from_db()
    first.refresh_from_db()
    assert (heldout.state, heldout.attempt_number, first.state) == (Job.State.QUEUED, 2, "made_way")
    engine.behaviour = lambda request: f"answer {request.number}"
    assert run_sampling(Round.objects.get()).state == Job.State.DONE
    perform_attempt(attempt_of(heldout).pk)
    heldout.refresh_from_db()
    assert heldout.state == Job.State.DONE


def test_scoring_follows_held_out_sampling_of_a_trained_policy(study: Study, engine: FaultyEngine) -> None:
    trained = Policy.objects.create(study=study, number=1, served_name="trained")
    for policy in (study.policies.get(number=0), trained):
        perform_attempt(attempt_of(create_job(study=study, kind=Job.Kind.HELDOUT, policy=policy)).pk)
    scoring = Job.objects.get(kind=Job.Kind.SCORING)
    # Its own responses, and those of its rival in blind evaluation, the reference.
    assert (scoring.policy, scoring.total) == (trained, 6 + 6)


@pytest.mark.parametrize("first", [0, 1])
def test_blind_pairs_follow_held_out_sampling_whichever_policy_is_sampled_first(
    study: Study, engine: FaultyEngine, first: int
) -> None:
    trained = trained_policy(study, number=1)
    prompt = train_prompts(study)[0]
    for number in range(16):
        texts = (f"left {number}", f"right {number}")
        a, b = (add_response(prompt=prompt, text=text, was_cut=False) for text in texts)
        add_pair(prompt=prompt, response_a=a, response_b=b, batch=1)
    for number in (first, 1 - first):
        policy = study.policies.get(number=number)
        perform_attempt(attempt_of(create_job(study=study, kind=Job.Kind.HELDOUT, policy=policy)).pk)
    asked = EvaluationPair.objects.filter(policy=trained, pair__purpose=Pair.Purpose.EVALUATE)
    assert asked.count() == 4  # a fifth of 20 pairs
    assert {row.opponent.number for row in asked} == {0}


def test_study_of_a_lost_round_says_what_to_do(study: Study, engine: FaultyEngine) -> None:
    job = create_job(study=study, kind=Job.Kind.SAMPLING)
    with pytest.raises(JobFailed, match="open a new one"):
        sample_round(claim_of(job))
    job = create_job(study=study, kind=Job.Kind.HELDOUT)
    with pytest.raises(JobFailed, match="nothing to sample from"):
        sample_heldout(claim_of(job))
    assert make_round(study).sampled_policy == study.policies.get()
    assert Prompt.objects.filter(study=study).count() == 9
