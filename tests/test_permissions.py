"""Who may call what: every URL of the URLconf × every role × objects of another study.

A URL without a row here fails the test, so nobody can add one without deciding who may call it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.conf import settings as django_settings
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from annotate.models import Flag, Invite, Lease, Membership, Pair, Role, Study, User, Verdict
from annotate.services.accounts import create_user
from annotate.services.gold import make_known_pair
from annotate.services.invites import create_invite, hash_of
from annotate.services.pairs import add_pair, add_response
from annotate.services.queue import lease_next_pair
from annotate.services.studies import add_member
from tests.training.factories import make_job, make_round, make_study, make_trial, train_prompts
from tests.training.page_world import add_policy
from training.models import DemonstrationRun, Job, Round, Run

PEOPLE = ("anonymous", "outsider", "viewer", "annotator", "lead")
EVERYONE = frozenset(PEOPLE)
SIGNED_IN = EVERYONE - {"anonymous"}
MEMBERS = frozenset({"viewer", "annotator", "lead"})
LABELLERS = frozenset({"annotator", "lead"})
READERS = frozenset({"viewer", "lead"})
LEADS = frozenset({"lead"})  # of this study; the outsider leads another one

LINK = "the-secret-of-a-link"


@dataclass(frozen=True)
class Row:
    """Who may call a URL with which method; `objects` names its arguments beside the study's slug."""

    allowed: frozenset[str]
    method: str = "get"
    objects: tuple[str, ...] = ()
    in_study: bool = True
    arguments: dict[str, str] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)


ROWS: dict[str, Row] = {
    "healthz": Row(EVERYONE, in_study=False),
    "readyz": Row(EVERYONE, in_study=False),
    "login": Row(EVERYONE, in_study=False),
    "logout": Row(SIGNED_IN, method="post", in_study=False),
    # Exists only in the demo and from loopback; tests/annotate holds that. Here it is absent for everybody.
    "demo-login": Row(frozenset(), method="post", in_study=False),
    # Whoever holds a link may follow it; tests/annotate/test_invites.py holds what it then allows.
    "join": Row(EVERYONE, in_study=False, arguments={"token": LINK}),
    "home": Row(SIGNED_IN, in_study=False),
    "status": Row(SIGNED_IN, in_study=False),
    "study-create": Row(frozenset({"outsider", "lead"}), in_study=False),
    "label": Row(LABELLERS),
    "label-heartbeat": Row(LABELLERS, method="post"),
    "label-next": Row(LABELLERS),
    "label-undo": Row(LABELLERS, method="post"),
    "label-judge": Row(LABELLERS, method="post", objects=("pair_id",)),
    "label-skip": Row(LABELLERS, method="post", objects=("pair_id",)),
    "label-flag": Row(LABELLERS, objects=("pair_id",)),
    "label-draft": Row(LABELLERS, method="post", objects=("pair_id",), data={"content": "{}"}),
    "history": Row(LABELLERS),
    "history-pair": Row(LABELLERS, objects=("pair_id",)),
    "history-take-back": Row(LABELLERS, method="post", objects=("pair_id",)),
    "guidelines-seen": Row(MEMBERS, method="post"),
    "profile": Row(SIGNED_IN, in_study=False),
    "profile-keys": Row(SIGNED_IN, method="post", in_study=False),
    "profile-password": Row(SIGNED_IN, method="post", in_study=False),
    "profile-theme": Row(SIGNED_IN, method="post", in_study=False, data={"theme": "dark"}),
    "hints-dismiss": Row(SIGNED_IN, method="post", in_study=False),
    "study-guidelines": Row(MEMBERS),
    "guidelines-versions": Row(READERS),
    "practice-again": Row(LABELLERS, method="post"),
    "practice-feedback": Row(LABELLERS, objects=("pair_id",)),
    "quality": Row(READERS),
    "review": Row(READERS),
    "review-pair": Row(READERS, objects=("pair_id",)),
    "pair-resolve": Row(LEADS, method="post", objects=("pair_id",), data={"decision": "a"}),
    "pair-unresolve": Row(LEADS, method="post", objects=("pair_id",)),
    "pair-withdraw": Row(LEADS, method="post", objects=("pair_id",)),
    "pair-restore": Row(LEADS, method="post", objects=("pair_id",)),
    "pair-make-known": Row(
        LEADS, method="post", objects=("pair_id",), data={"purpose": "gold", "verdict": "a"}
    ),
    "flag-answer": Row(LEADS, method="post", objects=("flag_id",)),
    "flag-reopen": Row(LEADS, method="post", objects=("flag_id",)),
    "checks": Row(LEADS),
    "check-add": Row(LEADS, method="post"),
    "check-import": Row(LEADS, method="post"),
    "check-use": Row(LEADS, method="post", objects=("known_id",), data={"on": "0"}),
    "people": Row(READERS),
    "member-pause": Row(LEADS, method="post", objects=("member_id",), data={"on": "1"}),
    "member-training": Row(LEADS, method="post", objects=("member_id",), data={"on": "0"}),
    "invite-create": Row(LEADS, method="post"),
    "invite-revoke": Row(LEADS, method="post", objects=("invite_id",)),
    "leases-release-left": Row(LEADS, method="post"),
    "lease-release": Row(LEADS, method="post", objects=("lease_id",)),
    "lease-reassign": Row(LEADS, method="post", objects=("lease_id",)),
    "study-state": Row(LEADS, method="post", data={"state": "active"}),
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
    "demonstrations": Row(LEADS),
    "demonstrations-live": Row(LEADS),
    "demonstration-metrics": Row(LEADS, objects=("demonstration",)),
    "demonstration-base": Row(LEADS, method="post", objects=("demonstration",)),
    "compare": Row(READERS),
    "compare-figures": Row(READERS),
    "compare-prompt": Row(READERS, objects=("prompt_id",)),
    "compare-jsonl": Row(READERS),
    "compare-csv": Row(READERS),
    "trial-create": Row(LEADS),
    "trial-detail": Row(LEADS, objects=("trial_id",)),
    "trial-live": Row(LEADS, objects=("trial_id",)),
    "trial-stop": Row(LEADS, method="post", objects=("trial_id",)),
    "trial-queue": Row(LEADS, method="post", objects=("trial_id",)),
    "evaluation": Row(READERS),
    "evaluation-plan": Row(LEADS),
    "evaluation-more": Row(LEADS, method="post", objects=("policy",)),
    "evaluation-take-back": Row(LEADS, method="post"),
    "policy-list": Row(READERS),
    "policy-detail": Row(READERS, objects=("policy",)),
    "policy-examples": Row(LEADS, objects=("policy",)),
    "policy-adapter": Row(LEADS, objects=("policy",)),
    "policy-merge": Row(LEADS, method="post", objects=("policy",)),
    "policy-model": Row(LEADS, objects=("policy",)),
    "round-open": Row(LEADS, method="post"),
    "round-detail": Row(READERS, objects=("number",)),
    "round-live": Row(READERS, objects=("number",)),
    "round-train": Row(LEADS, method="post", objects=("number",)),
    "round-close": Row(LEADS, method="post", objects=("number",)),
    "policy-choose": Row(LEADS, method="post", objects=("number",), data={"policy": "0"}),
    "round-curves": Row(READERS, objects=("number",)),
    "run-create": Row(LEADS, objects=("number",)),
    "training-set": Row(LEADS, objects=("number",)),
    "training-set-save": Row(LEADS, method="post", objects=("number",)),
    "training-set-train": Row(LEADS, method="post", objects=("number",)),
    "run-detail": Row(READERS, objects=("number", "run")),
    "run-live": Row(READERS, objects=("number", "run")),
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
class Furnished:
    """A study with one of everything, of which another study has one too, and the sessions of who asks."""

    study: Study
    objects: dict[str, int]
    elsewhere: dict[str, int]
    sessions: dict[str, str]


@dataclass(frozen=True)
class World:
    """What a test gets: the rows, and clients of its own, since signing out empties one."""

    study: Study
    objects: dict[str, int]
    elsewhere: dict[str, int]
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
    learnt = DemonstrationRun.objects.create(
        study=study,
        number=round_number,
        config={},
        examples=1,
        dataset_sha256="",
        directory="runs/y",
        base_before="owner/model",
    )
    job: Job = make_job(study, round=opened)
    extra, _ = create_user(username=f"extra-{study.slug}")
    member: Membership = add_member(study=study, user=extra, role=Role.ANNOTATOR, actor=None)
    lead = study.memberships.get(role=Role.LEAD, user__username__startswith="lead-").user
    known = make_known_pair(
        pair=pair, purpose=Pair.Purpose.GOLD, verdict=Verdict.A, explanation="", actor=lead
    )
    flag = Flag.objects.create(pair=pair, annotator=extra, reason=Flag.Reason.OTHER)
    invite = create_invite(
        study=study, role=Role.ANNOTATOR, days=1, max_uses=None, note="", actor=lead
    ).invite
    leased = lease_next_pair(study=study, annotator=extra)
    assert leased is not None
    return {
        "known_id": known.pk,
        "flag_id": flag.pk,
        "invite_id": invite.pk,
        "lease_id": Lease.objects.get(annotator=extra).pk,
        "pair_id": pair.pk,
        "prompt_id": prompt.pk,
        "number": opened.number,
        "run": run.number,
        "demonstration": learnt.number,
        "job_id": job.pk,
        "member_id": member.pk,
        "trial_id": make_trial(study).pk,
        "policy": add_policy(study, number=round_number).number,
    }


def session_of(user: User) -> str:
    client = Client()
    client.force_login(user, backend=django_settings.AUTHENTICATION_BACKENDS[-1])
    return client.cookies[django_settings.SESSION_COOKIE_NAME].value


@pytest.fixture(scope="module")
def furnished(kept_rows: None) -> Furnished:
    study, other = make_study(), make_study()
    sessions = {"anonymous": ""}
    for name, home, role in (
        ("outsider", other, Role.LEAD),
        ("viewer", study, Role.VIEWER),
        ("annotator", study, Role.ANNOTATOR),
        ("lead", study, Role.LEAD),
    ):
        user, _ = create_user(username=f"person-{name}")
        add_member(study=home, user=user, role=role, actor=None)
        sessions[name] = session_of(user)
    objects = furnish(study, round_number=1)
    Invite.objects.filter(pk=objects["invite_id"]).update(token_hash=hash_of(LINK))
    elsewhere = furnish(make_study(), round_number=7)
    return Furnished(study=study, objects=objects, elsewhere=elsewhere, sessions=sessions)


@pytest.fixture
def world(furnished: Furnished, db: None) -> World:
    clients = {name: Client() for name in furnished.sessions}
    for name, client in clients.items():
        client.cookies[django_settings.SESSION_COOKIE_NAME] = furnished.sessions[name]
    return World(
        study=furnished.study, objects=furnished.objects, elsewhere=furnished.elsewhere, clients=clients
    )


def address(name: str, *, slug: str, objects: dict[str, int]) -> str:
    row = ROWS[name]
    arguments: dict[str, str | int] = {"slug": slug} if row.in_study else {**row.arguments}
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
    url = address(name, slug=world.study.slug, objects=world.elsewhere)
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
