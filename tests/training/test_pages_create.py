"""Creating a study on a page: faults beside their field, what was typed stays, all or nothing is made."""

from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django import Settings

from annotate.models import Prompt, Role, Study
from tests.support.model_folder import model_folder as model_folder
from tests.training.factories import make_user
from tests.training.page_world import PageWorld, client_of, page_world

pytestmark = pytest.mark.django_db
PROMPTS = b'{"prompt": "One?", "split": "train"}\n{"prompt": "Two?", "split": "heldout"}\n'


@pytest.fixture
def world() -> PageWorld:
    return page_world()


def typed(model_folder: Path, **changes: object) -> dict[str, object]:
    return {
        "name": "Kind answers",
        "base_model": str(model_folder),
        "prompts": SimpleUploadedFile("prompts.jsonl", PROMPTS),
        "heldout_percent": "25",
        "guidelines": "Prefer **kind** answers.",
        "labels_per_pair": "2",
        "members": "",
        **changes,
    }


def refused(client: Client, values: dict[str, object]) -> str:
    """The page after a refusal, with the entities of quotation marks resolved; nothing was made."""
    studies = Study.objects.count()
    response = client.post("/studies/new/", values)
    assert response.status_code == 422
    assert Study.objects.count() == studies
    html: str = response.content.decode()
    return html.replace("&quot;", '"').replace("&#x27;", "'")


def error_beside(html: str, field: str) -> str:
    place = html.index(f'id="id_{field}_error"')
    return html[place : html.index("</ul>", place)]


def test_study_is_made_with_prompts_people_and_guidelines(world: PageWorld, model_folder: Path) -> None:
    anna, vera = make_user("anna"), make_user("vera")
    members = f"{anna.username}\n\n{vera.username} Viewer\n"
    response = world.lead.post("/studies/new/", typed(model_folder, members=members), follow=True)
    study = Study.objects.get(name="Kind answers")
    assert response.redirect_chain == [(f"/studies/{study.slug}/", 302)]
    assert "The study “Kind answers” is ready." in response.content.decode()
    assert (study.guidelines, study.labels_per_pair) == ("Prefer **kind** answers.", 2)
    assert sorted(study.prompts.values_list("split", flat=True)) == ["heldout", "train"]
    roles = dict(study.memberships.values_list("user__username", "role"))
    expected = {
        world.lead_user.username: Role.LEAD,
        anna.username: Role.ANNOTATOR,
        vera.username: Role.VIEWER,
    }
    assert roles == expected
    assert study.recipe.base_model == str(model_folder)


def test_form_suggests_the_base_model_of_the_newest_study(world: PageWorld) -> None:
    assert 'value="owner/model"' in world.lead.get("/studies/new/").content.decode()


def test_form_suggests_the_demo_model_before_there_is_a_study(settings: Settings, tmp_path: Path) -> None:
    settings.STUDIO_MODELS = tmp_path
    (tmp_path / "SmolLM2-135M-Instruct").mkdir()
    admin = make_user("admin")
    admin.is_superuser = True
    admin.save()
    html = client_of(admin).get("/studies/new/").content.decode()
    assert f'value="{tmp_path}/SmolLM2-135M-Instruct"' in html


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{broken\n", "Line 3:"),
        (b'{"prompt": ""}\n', "Line 3:"),
        (b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n', "shorten the prompt"),
        (b"\xff\xfe\n", "Line 3:"),
        (b'{"messages": [{"role": "assistant", "content": "Hi"}]}\n', "Line 3:"),
    ],
    ids=["broken", "empty prompt", "10 MB line", "not UTF-8", "ends with the assistant"],
)
def test_faulty_prompt_line_is_named_beside_the_file(
    world: PageWorld, model_folder: Path, line: bytes, said: str
) -> None:
    prompts = Prompt.objects.count()
    upload = SimpleUploadedFile("prompts.jsonl", PROMPTS + line + PROMPTS)
    html = refused(world.lead, typed(model_folder, prompts=upload))
    assert said in error_beside(html, "prompts")
    assert "choose the prompt file again" in html
    assert Prompt.objects.count() == prompts


def test_file_of_many_faults_shows_the_first_and_counts_the_rest(
    world: PageWorld, model_folder: Path
) -> None:
    upload = SimpleUploadedFile("prompts.jsonl", b"{\n" * 50)
    html = error_beside(refused(world.lead, typed(model_folder, prompts=upload)), "prompts")
    assert html.count("<li>") == 21
    assert "… and 30 more lines. Nothing was imported." in html


def test_upload_above_the_limit_is_refused(world: PageWorld, model_folder: Path, settings: Settings) -> None:
    settings.MAX_PROMPT_FILE_BYTES = 10
    html = refused(world.lead, typed(model_folder))
    assert "prompts.jsonl has 76\N{NO-BREAK SPACE}bytes; at most 10" in error_beside(html, "prompts")


def test_base_model_that_does_not_exist_is_named_and_the_rest_stays_typed(
    world: PageWorld, model_folder: Path
) -> None:
    html = refused(world.lead, typed(model_folder, base_model="/no/such/folder", heldout_percent="95"))
    assert "between 0 and 90 per cent" in error_beside(html, "heldout_percent")
    assert "/no/such/folder" in error_beside(html, "base_model")
    assert 'value="/no/such/folder"' in html
    assert 'value="Kind answers"' in html
    assert "Prefer **kind** answers." in html


def test_base_model_without_safetensors_is_refused(world: PageWorld, model_folder: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "pytorch_model.bin")
    assert "safetensors" in error_beside(refused(world.lead, typed(model_folder)), "base_model")


def test_taken_name_is_refused_beside_the_name(world: PageWorld, model_folder: Path) -> None:
    html = refused(world.lead, typed(model_folder, name=world.study.name.upper()))
    assert "exists already; choose another name" in error_beside(html, "name")


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("nobody-here", "There is no user “nobody-here”"),
        (
            "someone boss",
            "“someone boss” is not a user name and a role; the roles are lead, annotator, viewer.",
        ),
        ("a b c", "“a b c” is not a user name and a role"),
    ],
)
def test_faulty_member_is_named_with_its_line(
    world: PageWorld, model_folder: Path, member: str, said: str
) -> None:
    html = refused(world.lead, typed(model_folder, members=f"{make_user('anna').username}\n{member}"))
    assert f"Line 2: {said}" in error_beside(html, "members")


def test_member_who_is_named_twice_is_refused(world: PageWorld, model_folder: Path) -> None:
    html = refused(world.lead, typed(model_folder, members=world.lead_user.username))
    assert "is a member already" in error_beside(html, "members")


@pytest.mark.parametrize("share", ["91", "-1", "half", ""])
def test_heldout_share_out_of_range_is_refused(world: PageWorld, model_folder: Path, share: str) -> None:
    assert error_beside(refused(world.lead, typed(model_folder, heldout_percent=share)), "heldout_percent")


def test_people_who_lead_nothing_create_no_studies(world: PageWorld, model_folder: Path) -> None:
    studies = Study.objects.count()
    for client in (world.viewer, world.annotator):
        assert client.get("/studies/new/").status_code == 403
        assert client.post("/studies/new/", typed(model_folder)).status_code == 403
    assert Study.objects.count() == studies
