"""A study's start from demonstrations: what is read, when it may happen, what the trainer makes of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Study
from tests.training.factories import attempt_of, make_job, make_round, make_study
from tests.training.page_world import PageWorld, add_job, page_world
from training.core.run.directory import RunDirectory
from training.core.run.files import append_lines
from training.core.run.records import DemonstrationEvaluation, DemonstrationMetrics
from training.demonstrations import DemonstrationsRefused, read_demonstrations
from training.forms.demonstration import DemonstrationForm
from training.jobs import perform_attempt
from training.models import DemonstrationRun, Job, Recipe
from training.services.base_models import check_base_model
from training.services.demonstrations import (
    LearningRefused,
    LearningSettings,
    is_learning,
    start_learning,
    use_base,
)
from training.services.jobs import request_cancel
from training.services.rounds import RoundRefused, open_round
from training.services.run_directories import absolute

LINES = [
    json.dumps({"prompt": f"What is {number} and {number}?", "completion": f"{2 * number}."}).encode()
    for number in range(8)
]
database = pytest.mark.django_db(transaction=True)


def test_demonstrations_are_read_in_each_of_the_usual_shapes() -> None:
    user, assistant = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}
    lines = [
        {"prompt": "Hi", "completion": "Hello."},
        {"prompt": [user], "completion": [assistant]},
        {"messages": [user, assistant]},
    ]
    found = read_demonstrations([b"", *(json.dumps(line).encode() for line in lines)])
    assert [one.as_json() for one in found] == [
        {"id": f"line-{number}", "prompt": [user], "completion": [assistant]} for number in (2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "it is not JSON"),
        pytest.param("[" * 100_000, "it is not JSON", id="nested too deeply"),
        ("[1]", "it is not an object; expected"),
        ('{"prompt": "Hi"}', "completion is missing"),
        ('{"prompt": "", "completion": "x"}', "prompt is empty"),
        ('{"prompt": "Hi", "completion": " "}', "completion is empty"),
        ('{"messages": [{"role": "assistant", "content": "x"}]}', "messages must have a prompt before"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "ends with the role user, not assistant"),
    ],
)
def test_line_that_is_no_demonstration_is_named_and_nothing_is_taken(line: str, said: str) -> None:
    with pytest.raises(DemonstrationsRefused) as refused:
        read_demonstrations([LINES[0], line.encode()])
    assert refused.value.faults[0].line == 2
    assert said in refused.value.faults[0].message


def test_nothing_at_all_is_no_start() -> None:
    with pytest.raises(DemonstrationsRefused, match="there is no demonstration; expected"):
        read_demonstrations([b"\n", b""])


@pytest.fixture
def study() -> Study:
    return make_study(train=2, heldout=1)


@database
@pytest.mark.usefixtures("valkey")
def test_demonstrations_are_only_for_a_study_without_rounds(study: Study) -> None:
    make_round(study)
    with pytest.raises(LearningRefused, match="its reference never changes after that; create another study"):
        start_learning(study=study, lines=LINES, settings=LearningSettings())
    assert not DemonstrationRun.objects.exists()


@database
@pytest.mark.usefixtures("valkey")
def test_round_does_not_open_while_the_study_learns_its_reference(study: Study) -> None:
    run = start_learning(study=study, lines=LINES, settings=LearningSettings(epochs=2))
    assert (run.examples, run.job.total, run.config["stage"]) == (8, 2, "sft")
    with pytest.raises(RoundRefused, match="still learns from demonstrations"):
        open_round(study=study)
    with pytest.raises(LearningRefused, match="is under way; wait for it or cancel it first"):
        start_learning(study=study, lines=LINES, settings=LearningSettings())
    request_cancel(job=run.job)
    assert not is_learning(study)
    assert open_round(study=study).number == 1


@database
@pytest.mark.usefixtures("valkey")
def test_nothing_can_be_held_out_of_one_prompt_alone(study: Study) -> None:
    lines = [json.dumps({"prompt": "Hi", "completion": f"Hello {number}."}).encode() for number in range(3)]
    with pytest.raises(LearningRefused, match=r"Held out = 0\.1: whole prompts are held out.* Add demonstr"):
        start_learning(study=study, lines=lines, settings=LearningSettings(heldout_share=0.1))
    assert not DemonstrationRun.objects.exists()
    assert start_learning(study=study, lines=lines, settings=LearningSettings()).examples == 3


@database
@pytest.mark.usefixtures("valkey")
def test_job_without_its_run_says_what_to_do(study: Study) -> None:
    job = make_job(study, kind=Job.Kind.SFT)
    perform_attempt(attempt_of(job).pk)
    job.refresh_from_db()
    assert (job.state, job.cause) == (
        Job.State.FAILED,
        "The run of this job is gone; start from the demonstrations again.",
    )


@pytest.mark.slow
@database
@pytest.mark.usefixtures("valkey")
def test_model_learnt_from_demonstrations_becomes_the_reference_and_can_be_left_again(
    tiny_model: Path,
) -> None:
    study = make_study(train=2, heldout=1, base_model=str(tiny_model), dtype="float32")
    settings = LearningSettings(learning_rate=2e-3, epochs=3, demonstrations_per_step=4)
    run = start_learning(study=study, lines=LINES, settings=settings)
    perform_attempt(attempt_of(run.job).pk)
    run.refresh_from_db()
    run.job.refresh_from_db()
    assert (run.job.state, run.job.cause, run.job.done) == (Job.State.DONE, "", 6)
    assert run.result is not None
    assert run.result["loss_last"] < run.result["loss_first"]
    recipe = Recipe.objects.get(study=study)
    assert recipe.base_model.endswith(run.model_path)
    assert run.model_path == f"bases/{study.slug}-sft-{run.result['model_sha256'][:12]}"
    assert check_base_model(recipe.base_model).architecture == "LlamaForCausalLM"
    use_base(run=run, before=True)
    assert Recipe.objects.get(study=study).base_model == str(tiny_model)
    use_base(run=run, before=False)
    assert Recipe.objects.get(study=study).base_model == recipe.base_model
    opened = open_round(study=study)
    assert opened.sampled_policy.number == 0
    with pytest.raises(LearningRefused, match="has opened a round"):
        use_base(run=run, before=True)


@pytest.fixture
def world(model_folder: Path) -> PageWorld:
    return page_world(base_model=str(model_folder))


def typed(**changes: str) -> dict[str, str]:
    text = "\n".join(line.decode() for line in LINES)
    usual = {"text": text, "learning_rate": "2e-4", "epochs": "3", "demonstrations_per_step": "8"}
    return {**usual, "lora_r": "16", **changes}


@database
@pytest.mark.usefixtures("valkey")
def test_pasted_demonstrations_start_a_run_that_the_page_follows(world: PageWorld) -> None:
    page = world.lead.post(world.url("demonstrations/"), typed(), follow=True).content.decode()
    assert "8 demonstrations are queued." in page
    assert "Learning from 8 demonstrations" in page
    assert "every 2s" in page
    assert world.lead.get(world.url("demonstrations/live/")).status_code == 200
    request_cancel(job=DemonstrationRun.objects.get().job)
    assert world.lead.get(world.url("demonstrations/live/")).status_code == 286


@database
@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": "nonsense"}, "Line 1: it is not JSON"),
        ({"text": ""}, "Paste demonstrations or choose a file."),
        ({"patience": "2"}, "Stopping early goes by what is held out; give Held out a share, 0.1 is usual."),
        (
            {"heldout_share": "0.1", "patience": "3"},
            "Stop early after = 3 can never end a run of Epochs = 3, with one look an epoch; lower it below",
        ),
        ({"heldout_share": "0.9"}, "Held out = 0.9 must lie between 0.01 and 0.5; 0.1 is usual."),
        ({"epochs": "0"}, "Epochs = 0 must lie between 1 and 100; 1 to 3 is usual."),
        ({"learning_rate": "0"}, "Learning rate = 0 must lie between 1e-07 and 0.1; 2e-4 is usual."),
    ],
)
def test_faulty_demonstrations_are_refused_where_they_were_typed(
    world: PageWorld, changes: dict[str, str], said: str
) -> None:
    answer = world.lead.post(world.url("demonstrations/"), typed(**changes))
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert not DemonstrationRun.objects.exists()


def test_fault_of_the_held_out_share_is_said_once() -> None:
    form = DemonstrationForm(typed(heldout_share="0.9", patience="2"))
    assert list(form.errors) == ["heldout_share"]


@database
@pytest.mark.usefixtures("valkey")
def test_study_with_a_round_says_why_it_cannot_start_from_demonstrations(world: PageWorld) -> None:
    make_round(world.study)
    assert (
        "reference never changes after that" in world.lead.get(world.url("demonstrations/")).content.decode()
    )
    answer = world.lead.post(world.url("demonstrations/"), typed())
    assert answer.status_code == 422
    assert not DemonstrationRun.objects.exists()


@database
@pytest.mark.usefixtures("valkey")
def test_page_needs_as_many_queries_with_five_runs_as_with_one(world: PageWorld) -> None:
    def add(number: int) -> None:
        run = DemonstrationRun.objects.create(
            study=world.study,
            number=number,
            config={},
            examples=8,
            dataset_sha256="",
            directory="runs/x",
            base_before="owner/model",
        )
        add_job(world.study, kind=Job.Kind.SFT, state=Job.State.DONE, demonstration_run=run)

    def queries() -> int:
        world.lead.get(world.url("demonstrations/"))
        with CaptureQueriesContext(connection) as captured:
            world.lead.get(world.url("demonstrations/"))
        return len(captured)

    add(1)
    few = queries()
    for number in range(2, 6):
        add(number)
    assert queries() == few
    assert few <= 12


@database
@pytest.mark.usefixtures("valkey")
def test_page_draws_the_curves_of_the_newest_run_and_none_of_preferences(world: PageWorld) -> None:
    world.lead.post(world.url("demonstrations/"), typed())
    run = DemonstrationRun.objects.get()
    Job.objects.filter(demonstration_run=run).update(state=Job.State.RUNNING)
    steps = [
        DemonstrationMetrics(step, step / 2, 2.0 / step, 0.5, 1.5, 2e-4 / step, 100.0, 0.0) for step in (1, 2)
    ]
    looked = DemonstrationEvaluation(2, 1.0, 1.5, 4.48, 0.25, 3, 0.0)
    lines = [*(asdict(step) for step in steps), looked.as_json()]
    append_lines(RunDirectory(absolute(run.directory)).metrics, values=lines)
    page = world.lead.get(world.url("demonstrations/")).content.decode()
    url = world.url("demonstrations/1/metrics/")
    assert f'data-url="{url}"' in page
    drawn = [name for names in re.findall(r'data-series="([^"]+)"', page) for name in names.split()]
    heldout = ["eval_loss", "eval_mean_token_accuracy"]
    assert drawn == ["loss", heldout[0], "mean_token_accuracy", heldout[1], "learning_rate", "grad_norm"]
    answer = world.lead.get(url).json()
    assert (answer["steps"], answer["active"]) == ([1, 2], True)
    assert answer["series"]["loss"] == [2.0, 1.0]
    assert answer["series"]["learning_rate"] == [2e-4, 1e-4]
    assert set(answer["series"]) == set(drawn) - set(heldout)
    # Whole each time: an evaluation may come after its step has been asked for.
    later = world.lead.get(url, {"after": "2"}).json()
    assert (later["steps"], later["evaluations"]) == ([], answer["evaluations"])
    assert later["evaluations"] == {heldout[0]: [[2, 1.5]], heldout[1]: [[2, 0.25]]}


@database
@pytest.mark.usefixtures("valkey")
def test_held_out_share_and_early_stop_reach_the_run_and_their_outcome_the_page(world: PageWorld) -> None:
    world.lead.post(world.url("demonstrations/"), typed(heldout_share="0.25", patience="2"))
    run = DemonstrationRun.objects.get()
    assert run.config["evaluation"] == {"share": 0.25, "every": None, "patience": 2, "keep_best": True}
    looked = DemonstrationEvaluation(4, 1.0, 1.5, 4.48, 0.25, 3, 0.0)
    result = {"heldout": looked.as_json(), "stopped_early": True, "steps": 8, "kept_step": 4}
    DemonstrationRun.objects.update(result=result)
    page = world.lead.get(world.url("demonstrations/")).content.decode()
    assert "Held out: loss 1.500, perplexity 4.48" in page
    assert "stopped early after step 8, kept step 4 of 8" in page
    result |= {"stopped_early": False, "warnings": ["the weights of step 4 are gone"]}
    DemonstrationRun.objects.update(result=result)
    page = world.lead.get(world.url("demonstrations/")).content.decode()
    assert "stopped early" not in page
    assert "kept step 4 of 8" in page
    assert "The weights of step 4 are gone." in page
    DemonstrationRun.objects.update(result=result | {"kept_step": 8})
    assert "kept step" not in world.lead.get(world.url("demonstrations/")).content.decode()


@database
@pytest.mark.usefixtures("valkey")
def test_looks_at_held_out_demonstrations_stand_in_the_thinned_curves_of_a_long_run(world: PageWorld) -> None:
    world.lead.post(world.url("demonstrations/"), typed())
    lines: list[dict[str, object]] = []
    for step in range(1, 1001):
        lines.append(asdict(DemonstrationMetrics(step, step / 8, 2.0, 0.5, 1.5, 2e-4, 100.0, 0.0)))
        if step % 8 == 0:
            lines.append(DemonstrationEvaluation(step, step / 8, 1.5, 4.48, 0.25, 3, 0.0).as_json())
    append_lines(RunDirectory(absolute(DemonstrationRun.objects.get().directory)).metrics, values=lines)
    assert len(lines) == 1125
    answer = world.lead.get(world.url("demonstrations/1/metrics/")).json()
    looked = [step for step, _ in answer["evaluations"]["eval_loss"]]
    assert looked == list(range(8, 1001, 8))
    assert set(looked) <= set(answer["steps"])
    assert len(answer["steps"]) < 700
