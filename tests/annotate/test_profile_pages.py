"""The profile: name, theme, keys, password."""

from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from annotate.key_map import ACTIONS, key_problems, keys_of, own_keys
from annotate.models import Study, User
from tests.support.labelling import make_annotator, make_study
from tests.support.people import client_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ana() -> User:
    return make_annotator(make_study(), "ana")


@pytest.fixture
def client(ana: User) -> Client:
    return client_of(ana)


def test_name_and_theme_are_saved_and_the_page_is_painted_in_it(client: Client, ana: User) -> None:
    assert client.post(reverse("profile"), {"display_name": " Ana B. ", "theme": "dark"}).status_code == 302
    ana.refresh_from_db()
    assert (ana.display_name, ana.theme) == ("Ana B.", "dark")
    assert 'data-theme="dark"' in client.get(reverse("profile")).content.decode().split("<head>")[0]
    assert client.post(reverse("profile"), {"theme": "purple"}).status_code == 400
    assert client.post(reverse("profile-theme"), {"theme": "purple"}).status_code == 400
    assert client.post(reverse("profile-theme"), {"theme": "system"}).status_code == 204
    assert "data-theme=" not in client.get(reverse("profile")).content.decode().split("<head>")[0]


def test_keys_are_remapped_shown_and_reset(client: Client, ana: User) -> None:
    Study.objects.update(guidelines="")
    assert client.post(reverse("profile-keys"), {"left": "j", "right": "k"}).status_code == 302
    ana.refresh_from_db()
    assert ana.keys == {"left": "j", "right": "k"}
    assert client.post(reverse("profile-keys"), {"reset": "1"}).status_code == 302
    ana.refresh_from_db()
    assert ana.keys == {}


@pytest.mark.parametrize(
    "keys", [{"left": "z"}, {"left": "j", "right": "j"}, {"left": "F13"}, {"left": "ab"}]
)
def test_keys_that_clash_or_cannot_be_are_refused_with_a_sentence(
    client: Client, ana: User, keys: dict[str, str]
) -> None:
    answer = client.post(reverse("profile-keys"), keys)
    assert answer.status_code == 400
    text = answer.content.decode()
    assert "choose another key" in text or "cannot be a key" in text
    ana.refresh_from_db()
    assert ana.keys == {}


@given(st.dictionaries(st.sampled_from(sorted(ACTIONS)), st.text(max_size=2), max_size=6))
def test_a_choice_without_problems_gives_every_action_a_key_of_its_own(chosen: dict[str, str]) -> None:
    full = keys_of(chosen)
    if not key_problems(full):
        assert set(full) == set(ACTIONS)
        assert len(set(full.values())) == len(ACTIONS)
        assert keys_of(own_keys(full)) == full


def test_the_usual_keys_have_no_problems() -> None:
    assert key_problems(keys_of({})) == []


def test_the_password_is_changed_here_and_the_session_stays(client: Client, ana: User) -> None:
    ana.set_password("a first password")
    ana.save()
    client = client_of(ana)
    data = {"old_password": "a first password", "new_password1": "quite another 1", "new_password2": "typo"}
    assert client.post(reverse("profile-password"), data).status_code == 400
    data["new_password2"] = data["new_password1"]
    assert client.post(reverse("profile-password"), data).status_code == 302
    assert client.get(reverse("profile")).status_code == 200
    ana.refresh_from_db()
    assert ana.check_password("quite another 1")


def test_hints_and_guidelines_are_remembered_per_person(client: Client, ana: User) -> None:
    study = Study.objects.get()
    assert client.post(reverse("hints-dismiss")).status_code == 204
    assert client.post(reverse("guidelines-seen", args=[study.slug])).status_code == 204
    ana.refresh_from_db()
    assert ana.hints_dismissed
    assert ana.memberships.get().guidelines_read == study.guidelines_version
