"""The prompt list, a prompt's page, and importing through the form."""

from __future__ import annotations

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotate.models import AuditEntry, Prompt, Role, Split, Study, User, Verdict
from tests.support.labelling import label, make_annotator, make_pair, make_prompt, make_study, make_user
from tests.support.people import client_of, member_client, outsider_client

pytestmark = pytest.mark.django_db


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def lead(study: Study) -> Client:
    return client_of(User.objects.get(memberships__study=study, memberships__role=Role.LEAD))


def listing(client: Client, study: Study, **query: str) -> str:
    response = client.get(reverse("prompt-list", args=[study.slug]), query)
    assert response.status_code == 200
    return response.content.decode()


def send(client: Client, study: Study, content: bytes, heldout_percent: str = "20"):  # type: ignore[no-untyped-def]
    data = {"file": SimpleUploadedFile("prompts.jsonl", content), "heldout_percent": heldout_percent}
    return client.post(reverse("prompt-import", args=[study.slug]), data)


def test_the_list_shows_split_tags_and_responses(lead: Client, study: Study) -> None:
    make_pair(study, prompt=make_prompt(study, "First?"))
    make_prompt(study, "Second?", split=Split.HELDOUT)
    html = listing(lead, study)
    for part in ("First?", "Second?", "Held-out", "1 to train on · 1 held out"):
        assert part in html


def test_the_list_is_searched_also_for_letters_beyond_ascii_and_quotes(lead: Client, study: Study) -> None:
    for text in ("Grüße aus Köln", 'Say "yes" now', "100 % sure?"):
        make_prompt(study, text)
    for query, found in (("köln", "Köln"), ('"yes"', "yes"), ("100 %", "sure")):
        html = listing(lead, study, q=query)
        assert html.count('class="prompt-link"') == 1, query
        assert found in html
    assert "No prompt matches" in listing(lead, study, q="nothing like it")


def test_the_list_is_narrowed_to_a_split_and_an_unknown_split_is_none(lead: Client, study: Study) -> None:
    make_prompt(study, "Train me")
    make_prompt(study, "Hold me", split=Split.HELDOUT)
    assert "Train me" not in listing(lead, study, split="heldout")
    assert "Train me" in listing(lead, study, split="nonsense")


def test_the_list_has_pages_that_keep_the_search(lead: Client, study: Study) -> None:
    for number in range(60):
        make_prompt(study, f"question {number}")
    html = listing(lead, study, q="question", split="train")
    assert "Page 1 of 2" in html
    assert "?page=2&amp;q=question&amp;split=train" in html
    assert "Page 2 of 2" in listing(lead, study, page="999")
    assert "Page 1 of 2" in listing(lead, study, page="x")


def test_hostile_prompts_are_escaped_in_list_and_detail(lead: Client, study: Study) -> None:
    prompt = make_prompt(study, "<script>alert(1)</script><img src=x onerror=alert(2)>")
    make_pair(study, prompt=prompt, texts=("<iframe src=x>", "[x](javascript:alert(1))"))
    detail = lead.get(reverse("prompt-detail", args=[study.slug, prompt.pk])).content.decode()
    for html in (listing(lead, study), detail):
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "<iframe" not in html
        assert 'href="javascript' not in html


def test_a_prompts_page_shows_responses_and_marks_simulated_labels(lead: Client, study: Study) -> None:
    prompt = make_prompt(study, "Why?")
    pair = make_pair(study, prompt=prompt, texts=("short", "a longer one"))
    label(pair, make_user("robot", simulated_rule="shorter"), Verdict.A)
    html = lead.get(reverse("prompt-detail", args=[study.slug, prompt.pk])).content.decode()
    for part in ("short", "a longer one", "preferred 1×", "passed over 1×", "simulated · rule shorter"):
        assert part in html


def test_a_file_is_imported_and_the_page_says_what_came_in(lead: Client, study: Study) -> None:
    response = send(lead, study, b'{"prompt": "a", "split": "heldout"}\n{"prompt": "b", "x": 1}\n', "0")
    assert response.status_code == 302
    html = lead.get(response["Location"]).content.decode()
    assert "2 prompts were imported: 1 to train on, 1 held out. Keys that were left out: x." in html
    assert AuditEntry.objects.filter(action="prompts.imported", actor__isnull=False).exists()


def test_faults_are_listed_line_by_line_under_the_form_and_nothing_is_written(
    lead: Client, study: Study
) -> None:
    response = send(lead, study, b'{"prompt": "good"}\nbroken\n{"prompt": ""}\n', "35")
    html = response.content.decode()
    assert response.status_code == 400
    assert "2 lines are wrong; nothing was imported." in html
    for part in ("line 2", "This is not JSON", "line 3", "Message 1 is empty"):
        assert part in html
    assert 'value="35"' in html
    assert not Prompt.objects.exists()


def test_a_line_of_ten_megabytes_is_named(lead: Client, study: Study) -> None:
    html = send(lead, study, b'{"prompt": "' + b"x" * 10_000_000 + b'"}\n').content.decode()
    assert "The line has more than 1,000,000 bytes" in html
    assert not Prompt.objects.exists()


def test_an_oversized_file_is_refused_before_it_is_read(
    lead: Client, study: Study, settings: pytest.FixtureRequest
) -> None:
    settings.MAX_PROMPT_FILE_BYTES = 10  # type: ignore[attr-defined]
    response = send(lead, study, b'{"prompt": "long enough"}\n')
    assert response.status_code == 400
    assert "10 are possible" in response.content.decode()


@pytest.mark.parametrize("percent", ["-1", "91", "x", ""])
def test_a_share_that_makes_no_sense_is_refused_at_its_field(
    lead: Client, study: Study, percent: str
) -> None:
    response = send(lead, study, b'{"prompt": "a"}\n', percent)
    assert response.status_code == 400
    assert 'class="errorlist"' in response.content.decode()
    assert not Prompt.objects.exists()


def test_an_empty_or_missing_file_is_refused(lead: Client, study: Study) -> None:
    assert "no prompts" in send(lead, study, b"").content.decode()
    response = lead.post(reverse("prompt-import", args=[study.slug]), {"heldout_percent": "20"})
    assert "Choose a file first." in response.content.decode()


def test_only_leads_import_and_annotators_see_no_prompts(study: Study) -> None:
    viewer, annotator = member_client(study, Role.VIEWER), member_client(study, Role.ANNOTATOR)
    assert "prompt-import" not in listing(viewer, study)
    assert "Import prompts" not in listing(viewer, study)
    for client, status in ((viewer, 403), (annotator, 403), (outsider_client(), 404), (Client(), 302)):
        assert send(client, study, b'{"prompt": "a"}\n').status_code == status
    assert annotator.get(reverse("prompt-list", args=[study.slug])).status_code == 403
    assert not Prompt.objects.exists()


def test_the_import_answers_post_only(lead: Client, study: Study) -> None:
    assert lead.get(reverse("prompt-import", args=[study.slug])).status_code == 405


def test_prompts_of_other_studies_do_not_exist_here(lead: Client, study: Study) -> None:
    foreign = make_prompt(make_study(name="Other"))
    assert lead.get(reverse("prompt-detail", args=[study.slug, foreign.pk])).status_code == 404
    make_annotator(study)
