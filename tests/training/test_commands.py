"""The commands that other people's scripts rely on."""

from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from annotate.models import Membership, Pair, Prompt, Study, User
from tests.training.factories import make_study
from tests.training.loop import fill_round
from training.models import Job, Policy, Recipe, Round

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def run_command(*arguments: str) -> str:
    output = StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def demo_folder(model_folder: Path, settings: Settings) -> Path:
    """A folder at the place of the demo model."""
    settings.STUDIO_MODELS = model_folder.parent
    return model_folder.rename(model_folder.parent / "SmolLM2-135M-Instruct")


def test_open_round_label_and_train_by_command() -> None:
    study = make_study(train=4, minimum_labels=2)
    assert run_command("open_round", study.slug) == "Round 1 is open; it samples from SFT reference.\n"
    fill_round(Round.objects.get())
    run_command("simulate_labels", study.slug, "--rule", "shorter", "--annotator", "robot")
    said = run_command("train", study.name)
    assert said.startswith("Run 1 of round 1 is queued: 4 preferences, 2 steps, in runs/")
    assert Job.objects.get(kind=Job.Kind.RUN).state == Job.State.QUEUED
    assert set(Pair.objects.values_list("state", flat=True)) == {"frozen"}


@pytest.mark.parametrize("command", ["open_round", "train"])
def test_unknown_study_is_named_with_those_that_exist(command: str) -> None:
    study = make_study()
    with pytest.raises(CommandError, match=rf"no study 'nope'.*{study.slug}"):
        run_command(command, "nope")


def test_refusals_come_as_sentences() -> None:
    study = make_study(minimum_labels=2)
    with pytest.raises(CommandError, match=r"has no round yet; open one with `manage\.py open_round"):
        run_command("train", study.slug)
    run_command("open_round", study.slug)
    with pytest.raises(CommandError, match="Round 1 is already open"):
        run_command("open_round", study.slug)
    with pytest.raises(CommandError, match="0 of 2 usable preferences; label at least 2 more pairs"):
        run_command("train", study.slug)


def test_reconcile_says_what_it_did() -> None:
    assert "0 attempts put back into the queue" in run_command("reconcile")


def test_demo_is_created_once_with_passwords_shown_once(demo_folder: Path) -> None:
    said = run_command("create_demo")
    study = Study.objects.get()
    assert Recipe.objects.get().base_model == str(demo_folder)
    assert set(Membership.objects.values_list("user__username", "role")) == {
        ("lead", "lead"),
        ("ada", "annotator"),
        ("ben", "annotator"),
        ("chloe", "annotator"),
    }
    for line in said.splitlines()[1:5]:
        username, password, _ = line.split()
        assert User.objects.get(username=username).check_password(password)
    assert Prompt.objects.filter(study=study, split="train").count() >= 80
    assert Prompt.objects.filter(study=study, split="heldout").count() >= 30
    again = run_command("create_demo")
    assert again == "The demo study is there already. Log in with one click on the login page.\n"
    assert Study.objects.count() == Policy.objects.count() == 1


def test_demo_without_its_model_says_how_to_make_it(settings: Settings, tmp_path: Path) -> None:
    settings.STUDIO_MODELS = tmp_path
    with pytest.raises(CommandError, match="makes the demo model"):
        run_command("create_demo")
    assert not Study.objects.exists()
    assert not User.objects.exists()
