"""Who may call what: every URL of the URLconf × every role × objects of another study.

A URL without a row here fails the test, so nobody can add one without deciding who may call it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from annotate.models import Membership, Pair, Role, Study, User
from annotate.services.accounts import create_user
from annotate.services.pairs import add_pair, add_response
from annotate.services.studies import add_member
from tests.training.factories import make_job, make_round, make_study, train_prompts
from training.models import Job, Round, Run

PEOPLE = ("anonymous", "outsider", "viewer", "annotator", "lead")
EVERYONE = frozenset(PEOPLE)
SIGNED_IN = EVERYONE - {"anonymous"}
MEMBERS = frozenset({"viewer", "annotator", "lead"})
LABELLERS = frozenset({"annotator", "lead"})
READERS = frozenset({"viewer", "lead"})
LEADS = frozenset({"lead"})  # of this study; the outsider leads another one


@dataclass(frozen=True)
class Row:
    """Who may call a URL with which method; `objects` names its arguments beside the study's slug."""

    allowed: frozenset[str]
    method: str = "get"
    objects: tuple[str, ...] = ()
    in_study: bool = True
    data: dict[str, str] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "healthz": Row(EVERYONE, in_study=False),
    "readyz": Row(EVERYONE, in_study=False),
    "login": Row(EVERYONE, in_study=False),
    "logout": Row(SIGNED_IN, method="post", in_study=False),
    # Exists only in the demo and from loopback; tests/annotate holds that. Here it is absent for everybody.
    "demo-login": Row(frozenset(), method="post", in_study=False),
    "home": Row(SIGNED_IN, in_study=False),
    "status": Row(SIGNED_IN, in_study=False),
    "study-create": Row(frozenset({"outsider", "lead"}), in_study=False),
    "label": Row(LABELLERS),
    "label-next": Row(LABELLERS),
    "label-undo": Row(LABELLERS, method="post"),
    "label-judge": Row(LABELLERS, method="post", objects=("pair_id",)),
    "label-skip": Row(LABELLERS, method="post", objects=("pair_id",)),
    "study-guidelines": Row(MEMBERS),
    "prompt-list": Row(READERS),
    "prompt-import": Row(LEADS, method="post"),
    "prompt-detail": Row(READERS, objects=("prompt_id",)),
    "study-settings": Row(LEADS),
    "member-add": Row(LEADS, method="post"),
    "member-role": Row(LEADS, method="post", objects=("member_id",)),
    "member-remove": Row(LEADS, method="post", objects=("member_id",)),
    "export-preferences": Row(LEADS),
    "study-detail": Row(READERS),
    "study-live": Row(READERS),
    "recipe-edit": Row(LEADS),
    "compare": Row(READERS),
    "round-open": Row(LEADS, method="post"),
    "round-detail": Row(READERS, objects=("number",)),
    "round-live": Row(READERS, objects=("number",)),
    "round-train": Row(LEADS, method="post", objects=("number",)),
    "run-metrics": Row(READERS, objects=("number", "run")),
    "run-log": Row(READERS, objects=("number", "run")),
    "job-cancel": Row(LEADS, method="post", objects=("job_id",)),
    "job-retry": Row(LEADS, method="post", objects=("job_id",)),
}


def url_names(patterns: list[URLPattern | URLResolver]) -> list[str]:
    names: list[str] = []
    for pattern in patterns:
        if isinstance(pattern, URLResolver):
            names += url_names(pattern.url_patterns)
        else:
            names.append(str(pattern.name))
    return names


ALL_NAMES = url_names(get_resolver().url_patterns)


def test_every_url_has_a_row_and_every_row_a_url() -> None:
    assert set(ALL_NAMES) == set(ROWS)


@dataclass(frozen=True)
class World:
    """A study with one of everything, and the people who ask."""

    study: Study
    objects: dict[str, int]
    clients: dict[str, Client]


def furnish(study: Study, *, round_number: int) -> dict[str, int]:
    """Give the study one of everything that a URL can name, and return their ids."""
    prompt = train_prompts(study)[0]
    pair: Pair = add_pair(
        prompt=prompt,
        response_a=add_response(prompt=prompt, text="one", was_cut=False),
        response_b=add_response(prompt=prompt, text="two", was_cut=False),
        batch=round_number,
    )
    opened: Round = make_round(study, number=round_number)
    run = Run.objects.create(
        round=opened, number=1, config={}, receipt={}, dataset_sha256="", directory="runs/x"
    )
    job: Job = make_job(study, round=opened)
    extra, _ = create_user(username=f"extra-{study.slug}")
    member: Membership = add_member(study=study, user=extra, role=Role.ANNOTATOR, actor=None)
    return {
        "pair_id": pair.pk,
        "prompt_id": prompt.pk,
        "number": opened.number,
        "run": run.number,
        "job_id": job.pk,
        "member_id": member.pk,
    }


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user, backend=django_settings.AUTHENTICATION_BACKENDS[-1])
    return client


@pytest.fixture
def world(db: None) -> World:
    study, other = make_study(), make_study()
    clients = {"anonymous": Client()}
    for name, home, role in (
        ("outsider", other, Role.LEAD),
        ("viewer", study, Role.VIEWER),
        ("annotator", study, Role.ANNOTATOR),
        ("lead", study, Role.LEAD),
    ):
        user, _ = create_user(username=f"person-{name}")
        add_member(study=home, user=user, role=role, actor=None)
        clients[name] = client_of(user)
    return World(study=study, objects=furnish(study, round_number=1), clients=clients)


def address(name: str, *, slug: str, objects: dict[str, int]) -> str:
    row = ROWS[name]
    arguments: dict[str, str | int] = {"slug": slug} if row.in_study else {}
    return reverse(name, kwargs={**arguments, **{key: objects[key] for key in row.objects}})


def call(client: Client, name: str, url: str) -> int:
    row = ROWS[name]
    response = client.post(url, row.data) if row.method == "post" else client.get(url)
    if response.status_code == 302 and response.headers["Location"].startswith(reverse("login") + "?"):
        return 401
    return response.status_code


def is_right(name: str, person: str, status: int) -> bool:
    if person in ROWS[name].allowed:
        return status in (200, 204, 286, 302, 400, 409)
    if name == "demo-login":
        return status == 404
    if person == "anonymous":
        return status == 401
    return status == (404 if person == "outsider" else 403)


@pytest.mark.parametrize("name", ROWS)
def test_url_answers_exactly_the_people_it_is_for(world: World, name: str) -> None:
    url = address(name, slug=world.study.slug, objects=world.objects)
    # From the least to the most privileged: nothing has changed when those who may not change it ask.
    answers = {person: call(world.clients[person], name, url) for person in PEOPLE}
    wrong = {person: status for person, status in answers.items() if not is_right(name, person, status)}
    assert not wrong, f"{name} is for {sorted(ROWS[name].allowed)}; wrong answers: {wrong}"


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.objects])
def test_a_lead_cannot_reach_objects_of_another_study_through_their_own(world: World, name: str) -> None:
    elsewhere = furnish(make_study(), round_number=7)
    url = address(name, slug=world.study.slug, objects=elsewhere)
    assert call(world.clients["lead"], name, url) == 404


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.method == "post"])
def test_whatever_changes_state_answers_post_only(world: World, name: str) -> None:
    url = address(name, slug=world.study.slug, objects=world.objects)
    assert world.clients["lead"].get(url).status_code in (404, 405)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.method == "post"])
def test_a_post_without_csrf_token_is_refused(world: World, name: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.cookies = world.clients["lead"].cookies
    assert client.post(address(name, slug=world.study.slug, objects=world.objects)).status_code == 403


@pytest.mark.parametrize("name", ["home", "study-detail", "label", "compare", "prompt-list", "login"])
def test_pages_carry_a_content_security_policy_without_inline_script(world: World, name: str) -> None:
    url = address(name, slug=world.study.slug, objects=world.objects)
    policy = world.clients["lead"].get(url, follow=True).headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe-inline" not in policy
    assert "unsafe-eval" not in policy
