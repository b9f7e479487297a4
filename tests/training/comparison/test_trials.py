"""The prompt box: what is refused, what is stopped, and what reaches the labelling queue."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from annotate.models import AuditEntry, Pair, Prompt, Split, Verdict
from tests.training.comparison.worlds import text_of
from tests.training.factories import label, make_job, make_round, make_trial, make_user, train_prompts
from tests.training.page_world import PageWorld, heldout_prompts
from training.models import Job, Policy, Round, SampledResponse, Trial, TrialAnswer
from training.services import trial_engine
from training.services.training_set import build_training_set
from training.services.trial_engine import run_trial
from training.services.trial_queue import queue_pair
from training.services.trials import TrialRefused, chat_of, stop_trial

pytestmark = pytest.mark.django_db

TEXTS = ("It scatters short waves most.", "Because of <b>Rayleigh</b> scattering.")


@pytest.fixture
def opened(world: PageWorld, reference: Policy, trained: Policy) -> Round:
    Round.objects.filter(study=world.study).update(state=Round.State.CLOSED)
    return make_round(world.study, number=2)


@pytest.fixture
def trial(world: PageWorld, opened: Round, reference: Policy, trained: Policy) -> Trial:
    """A trial that both policies have answered."""
    made = make_trial(world.study, policies=(reference, trained))
    for answer, text in zip(made.answers.order_by("policy__number"), TEXTS, strict=True):
        answer.state, answer.text, answer.finish_reason = TrialAnswer.State.DONE, text, "stop"
        answer.prompt_token_ids, answer.token_ids, answer.logprobs = [1, 2], [3, 4, 5], [-0.1, -0.2, -0.3]
        answer.save()
    return made


def send(world: PageWorld, trial: Trial, *, policies: tuple[int, ...] = (0, 1)) -> str:
    """Press “Send as a pair” and return what the page then says."""
    response = world.lead.post(
        world.url(f"compare/try/{trial.pk}/queue/"), {"answer": list(policies)}, follow=True
    )
    html: str = response.content.decode()
    return html


def refusal_of(trial: Trial, world: PageWorld) -> str:
    with pytest.raises(TrialRefused) as refused:
        queue_pair(trial=trial, answers=list(trial.answers.all()), actor=world.lead_user)
    return str(refused.value)


def test_two_answers_become_a_train_pair_of_the_round_with_their_provenance(
    world: PageWorld, opened: Round, trial: Trial
) -> None:
    assert "The pair is in the queue of round 2" in send(world, trial)
    pair = Pair.objects.get(batch=2)
    assert (pair.purpose, pair.prompt.split, pair.prompt.tags) == ("train", Split.TRAIN, ["tried"])
    assert pair.prompt.messages == trial.messages
    first, second = SampledResponse.objects.filter(round=opened).order_by("slot")
    assert (first.response, second.response) == (pair.response_a, pair.response_b)
    assert [first.policy.number, second.policy.number] == [0, 1]
    assert (second.token_ids, second.prompt_token_ids) == ([3, 4, 5], [1, 2])
    assert second.settings["max_tokens"] == 24
    assert AuditEntry.objects.filter(action="trial.pair_queued", details__pair=pair.pk).exists()
    assert "in the queue of round 2" in text_of(world, f"compare/try/{trial.pk}/")


def test_same_two_answers_go_into_the_queue_once(world: PageWorld, trial: Trial) -> None:
    send(world, trial)
    assert "in the labelling queue already" in send(world, trial)
    assert Pair.objects.filter(batch=2).count() == 1


@pytest.mark.parametrize("spelling", ["{}", "  {}\n", "{} "])
def test_held_out_text_is_refused_with_the_reason(
    world: PageWorld, opened: Round, reference: Policy, trained: Policy, trial: Trial, spelling: str
) -> None:
    prompt = heldout_prompts(world.study)[1]
    text = spelling.format(str(prompt.messages[0]["content"]).upper())
    Trial.objects.filter(pk=trial.pk).update(messages=[{"role": "user", "content": text}])
    trial.refresh_from_db()
    assert "is the held-out prompt" in refusal_of(trial, world)
    assert "is the held-out prompt" in text_of(world, f"compare/try/{trial.pk}/")
    assert not Pair.objects.filter(batch=2).exists()


def test_text_of_a_check_pair_is_refused(world: PageWorld, trial: Trial) -> None:
    prompt = train_prompts(world.study)[0]
    Prompt.objects.filter(pk=prompt.pk).update(split=Split.CHECK, content_hash=trial.content_hash)
    assert "gold or practice pair" in refusal_of(trial, world)


def test_without_a_collecting_round_nothing_is_queued(world: PageWorld, opened: Round, trial: Trial) -> None:
    Round.objects.filter(pk=opened.pk).update(state=Round.State.TRAINED)
    assert "No round is collecting" in refusal_of(trial, world)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"text": TEXTS[0]}, "The two answers are the same"),
        ({"state": TrialAnswer.State.STOPPED}, "is stopped, not whole"),
        ({"state": TrialAnswer.State.FAILED}, "is failed, not whole"),
        ({"token_ids": []}, "not whole"),
    ],
)
def test_pair_that_cannot_be_learned_from_is_refused(
    world: PageWorld, trial: Trial, fields: dict[str, object], reason: str
) -> None:
    trial.answers.filter(policy__number=1).update(**fields)
    assert reason in refusal_of(trial, world)


@pytest.mark.parametrize("policies", [(), (0,), (0, 7)])
def test_pair_needs_two_answers(world: PageWorld, trial: Trial, policies: tuple[int, ...]) -> None:
    assert "A pair is made of two answers" in send(world, trial, policies=policies)


def test_text_that_is_a_train_prompt_gets_one_more_pair_when_its_own_is_sampled(
    world: PageWorld, opened: Round, trial: Trial
) -> None:
    prompt = train_prompts(world.study)[0]
    Prompt.objects.filter(pk=prompt.pk).update(messages=trial.messages, content_hash=trial.content_hash)
    job = make_job(world.study, round=opened)
    assert "still sampling this prompt" in refusal_of(trial, world)
    Job.objects.filter(pk=job.pk).update(state=Job.State.DONE)
    send(world, trial)
    assert Pair.objects.get(batch=2).prompt == prompt
    assert world.study.prompts.filter(content_hash=trial.content_hash).count() == 1


def test_hostile_answers_stay_text(world: PageWorld, trial: Trial) -> None:
    hostile = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    trial.answers.update(text=hostile)
    for state in (TrialAnswer.State.DONE, TrialAnswer.State.WRITING):
        trial.answers.update(state=state)
        main = text_of(world, f"compare/try/{trial.pk}/").partition("<main")[2]
        assert "<script>alert" not in main
        assert "<img" not in main


def test_polling_ends_when_nothing_comes_any_more(world: PageWorld, trial: Trial) -> None:
    path = world.url(f"compare/try/{trial.pk}/live/")
    assert world.lead.get(path).status_code == 286
    trial.answers.update(state=TrialAnswer.State.WRITING)
    assert world.lead.get(path).status_code == 200


def test_answer_whose_writer_has_gone_counts_as_failed(world: PageWorld, trial: Trial) -> None:
    trial.answers.update(state=TrialAnswer.State.WRITING)
    Trial.objects.filter(pk=trial.pk).update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    assert world.lead.get(world.url(f"compare/try/{trial.pk}/live/")).status_code == 286
    assert "The web server was restarted" in text_of(world, f"compare/try/{trial.pk}/")


def test_one_answer_is_stopped_or_all(world: PageWorld, trial: Trial) -> None:
    trial.answers.update(state=TrialAnswer.State.WRITING)
    path = world.url(f"compare/try/{trial.pk}/stop/")
    world.lead.post(path, {"policy": "1"})
    states = list(trial.answers.order_by("policy__number").values_list("state", flat=True))
    assert states == ["writing", "stopped"]
    world.lead.post(path)
    assert not trial.answers.exclude(state="stopped").exists()


def ask(world: PageWorld, **fields: object) -> tuple[int, str]:
    values = {
        "text": "Why?",
        "format": "text",
        "policies": ["0", "1"],
        "temperature": "1",
        "top_p": "1",
        "max_tokens": "8",
        **fields,
    }
    response = world.lead.post(world.url("compare/try/"), values)
    return response.status_code, response.content.decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"text": " "}, "There is nothing to answer"),
        ({"policies": ["0"]}, "1 policy is chosen; choose 2 to 4"),
        ({"policies": []}, "Choose two to four policies"),
        ({"policies": ["0", "9"]}, "not one of the available choices"),
        ({"temperature": "-1"}, "greater than or equal to 0"),
        ({"max_tokens": "100000"}, "less than or equal to 2048"),
        ({"format": "chat", "text": "{"}, "The chat is not JSON"),
        ({"format": "chat", "text": '[{"role": "assistant", "content": "x"}]'}, "The last message must be"),
        ({"text": "x" * 20_001}, "20000"),
    ],
)
def test_what_cannot_be_asked_is_said_beside_the_box(
    world: PageWorld, opened: Round, fields: dict[str, object], said: str
) -> None:
    status, html = ask(world, **fields)
    assert status == 400
    assert said in html
    assert not Trial.objects.exists()


def test_too_many_texts_at_once_or_a_minute_are_refused(
    world: PageWorld, opened: Round, trial: Trial
) -> None:
    trial.answers.update(state=TrialAnswer.State.WRITING)
    Trial.objects.update(created_by=world.lead_user)
    assert "still being answered" in ask(world)[1]
    stop_trial(trial)
    for _ in range(9):
        make_trial(world.study)
    Trial.objects.update(created_by=world.lead_user)
    assert "10 texts in a minute" in ask(world)[1]


def test_box_begins_with_the_recipe_and_a_prompt_s_chat(world: PageWorld, opened: Round) -> None:
    prompt = heldout_prompts(world.study)[0]
    html = text_of(world, f"compare/try/?prompt={prompt.pk}")
    assert str(prompt.messages[0]["content"]) in html
    assert 'name="max_tokens" value="96"' in html
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    Prompt.objects.filter(pk=prompt.pk).update(messages=chat)
    html = text_of(world, f"compare/try/?prompt={prompt.pk}")
    assert "Be brief." in html
    assert '<option value="chat" selected>' in html
    assert chat_of(json.dumps(chat), is_chat=True) == chat


def test_waiting_for_an_engine_is_said_and_can_be_stopped(
    world: PageWorld, trial: Trial, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No engine is up: the answers say so, and fail with a cause when their time is over."""
    settings.VLLM_URLS = []
    trial.answers.update(state=TrialAnswer.State.WAITING, text="", token_ids=[])
    monkeypatch.setattr(trial_engine, "ENGINE_SECONDS", 0)
    run_trial(trial.pk)
    for answer in trial.answers.all():
        assert answer.state == TrialAnswer.State.FAILED
        assert "none is running" in answer.note
    stop_trial(trial)
    assert not trial.answers.filter(state=TrialAnswer.State.STOPPED).exists()


def test_stopped_before_an_engine_was_there_ends_the_wait(
    world: PageWorld, trial: Trial, settings: Settings
) -> None:
    settings.VLLM_URLS = []
    trial.answers.update(state=TrialAnswer.State.WAITING)
    stop_trial(trial)
    run_trial(trial.pk)
    assert set(trial.answers.values_list("state", flat=True)) == {"stopped"}


def test_judged_pair_of_a_trial_is_trained_on_with_the_tokens_that_were_streamed(
    world: PageWorld, opened: Round, trial: Trial
) -> None:
    pair = queue_pair(trial=trial, answers=list(trial.answers.all()), actor=world.lead_user)
    label(pair, annotator=make_user("judge"), verdict=Verdict.B)
    (example,) = build_training_set(round=opened).examples
    assert example.chosen_token_ids == (3, 4, 5)
    assert example.prompt_token_ids == (1, 2)
    assert [dict(message) for message in example.prompt] == trial.messages
