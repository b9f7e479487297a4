"""Sampling with several candidates per prompt, and from several servers at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from annotate.models import Pair
from tests.support.faulty_engine import Answer, FaultyEngine, Request, faulty_engine, slow
from tests.training.factories import attempt_of, make_study
from training.jobs import perform_attempt
from training.models import ChosenPair, Job, Policy, Round, SampledResponse
from training.services import engines, fleet
from training.services.rounds import open_round

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

BASE = "/models/base"
# log π − log π_ref of tokens 3, 4, …: the fourth response is as likely as the second though far longer.
LOG_RATIOS = {3: 0.0, 4: 5.0, 5: 5.0, 6: -4.9, 7: 0.0, 8: 0.0, 2: 0.0}
WORDS = (1, 2, 3, 6)


@pytest.fixture
def engine(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyEngine]:
    monkeypatch.setattr(engines, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(engines, "POLL_SECONDS", 0.05)
    with faulty_engine(base_model=BASE) as engine:
        engine.behaviour = lambda request: " ".join(["word"] * WORDS[request.number % 4])
        engine.reference_logp = lambda token: -0.25 - LOG_RATIOS[token]
        settings.VLLM_URLS = [engine.url]
        settings.SAMPLING_CONCURRENCY = 1
        yield engine


def sampled_round(*, train: int = 4, trained: bool = True, **recipe: object) -> Round:
    study = make_study(train=train, heldout=0, base_model=BASE, samples_per_prompt=4, **recipe)
    if trained:  # its adapter stays away, so that an engine without one can answer for it
        Policy.objects.create(study=study, number=1, served_name=f"{study.slug}-1")
    opened = open_round(study=study)
    perform_attempt(attempt_of(opened.jobs.get(kind=Job.Kind.SAMPLING)).pk)
    assert opened.jobs.get(kind=Job.Kind.SAMPLING).state == Job.State.DONE
    return opened


def test_round_makes_one_pair_of_four_responses_by_margin_with_the_engines_log_probs(
    engine: FaultyEngine,
) -> None:
    opened = sampled_round(pair_choice="margin", random_share=0.05, train=8)
    assert SampledResponse.objects.filter(round=opened).count() == 32
    pairs = list(Pair.objects.filter(batch=1).select_related("chosen", "prompt"))
    assert len(pairs) == 8
    by_margin = [pair for pair in pairs if pair.chosen.rule == "margin"]
    assert by_margin
    for pair in by_margin:
        assert (pair.response_a.sampled.slot, pair.response_b.sampled.slot) == (1, 3)
        assert pair.chosen.margin == pytest.approx(0.1)
        assert pair.chosen.candidates == 4
    unscored = SampledResponse.objects.filter(round=opened, reference_logp=None).values("prompt").distinct()
    assert unscored.count() == len(pairs) - len(by_margin)


def test_the_reference_is_not_asked_where_it_decides_nothing(engine: FaultyEngine) -> None:
    sampled_round(pair_choice="margin", random_share=0.05, trained=False)
    assert set(ChosenPair.objects.values_list("rule", flat=True)) == {"random"}
    assert not SampledResponse.objects.exclude(reference_logp=None).exists()


def test_round_keeps_the_choice_that_it_was_opened_with(engine: FaultyEngine) -> None:
    study = make_study(train=2, heldout=0, base_model=BASE, samples_per_prompt=4, pair_choice="length")
    opened = open_round(study=study)
    study.recipe.samples_per_prompt = 2
    study.recipe.save()
    job = opened.jobs.get(kind=Job.Kind.SAMPLING)
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    assert (job.done, job.total) == (8, 8)
    assert ChosenPair.objects.count() == 2


def test_prompt_whose_responses_are_all_the_same_is_dropped_and_counted(engine: FaultyEngine) -> None:
    engine.behaviour = lambda request: "always"
    opened = sampled_round(train=1)
    opened.refresh_from_db()
    assert (opened.pairs_dropped, Pair.objects.count()) == (1, 0)
    assert len(engine.requests) == 4 + 3  # the last slot is asked for three times more


def test_two_servers_share_a_round_and_the_faster_one_does_more(
    engine: FaultyEngine, settings: Settings
) -> None:
    took_more_than_half = threading.Event()

    def faster(request: Request) -> str:
        if request.number == 16:
            took_more_than_half.set()
        return f"answer {request.number}"

    def waiting(request: Request) -> str:
        took_more_than_half.wait(20)
        return f"other {request.number}"

    engine.behaviour = faster
    with faulty_engine(base_model=BASE) as slower:
        slower.behaviour = waiting
        settings.VLLM_URLS = [engine.url, slower.url]
        settings.SAMPLING_CONCURRENCY = 2
        opened = sampled_round(train=8)
    assert SampledResponse.objects.filter(round=opened).count() == 32
    assert len(engine.requests) + len(slower.requests) >= 32
    assert len(engine.requests) > len(slower.requests) > 0
    assert max(engine.most_at_once, slower.most_at_once) <= 2


def test_server_that_fails_leaves_its_slots_to_the_others_and_joins_again(
    engine: FaultyEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "REJOIN_SECONDS", 0.2)
    engine.behaviour = slow(0.05)

    def restarting(request: Request) -> str:
        if request.number < 2:
            raise Answer(503, "restarting")
        return f"other {request.number}"

    with faulty_engine(base_model=BASE) as other:
        other.behaviour = restarting
        settings.VLLM_URLS = [engine.url, other.url]
        opened = sampled_round(train=6)
    responses = SampledResponse.objects.filter(round=opened)
    assert responses.count() == 24
    assert responses.filter(response__text__startswith="other").exists()
