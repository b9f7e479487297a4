"""The page of a training set: a preview of rules, the pairs behind each count, saving, training by them."""

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Pair, Preference, Response, Side, Verdict
from annotate.services.resolutions import resolve_pair
from tests.training.factories import make_user
from tests.training.loop import fill_round, label_round
from tests.training.page_world import PageWorld, page_world
from training.models import Recipe, Round, Run
from training.services.rounds import open_round
from training.training_set.rules import Rules

pytestmark = pytest.mark.django_db
USUAL = {
    "aggregation": "majority",
    "ties": "learn",
    "both_bad": "leave_out",
    "strength": "alike",
    "edits": "original",
    "most_alike": "",
    "older_weight": "0.5",
}


@pytest.fixture
def world() -> PageWorld:
    world = page_world(train=6)
    label_new_round(world, Verdict.A, Verdict.B, Verdict.TIE, Verdict.BOTH_BAD)
    return world


def label_new_round(world: PageWorld, *verdicts: Verdict) -> Round:
    opened = open_round(study=world.study)
    fill_round(opened)
    label_round(opened, verdicts=verdicts)
    return opened


def page(
    world: PageWorld, *, part: bool = False, status: int = 200, rules: dict[str, str] | None = None
) -> str:
    headers = {"HX-Request": "true"} if part else {}
    response = world.lead.get(world.url("rounds/1/training-set/"), rules, headers=headers)
    assert response.status_code == status
    return response.content.decode()


def test_the_studys_rules_are_shown_with_what_they_keep(world: PageWorld) -> None:
    html = page(world)
    assert "2 preferences kept; left out: 1 ties, 1 both bad, 2 not labelled." in html
    assert "The study&#x27;s rules" in html or "The study's rules" in html
    assert html.count('class="example"') == 2


def test_other_rules_are_previewed_without_changing_anything(world: PageWorld) -> None:
    html = page(world, part=True, rules={**USUAL, "ties": "half"})
    assert "2 preferences kept; 1 even pairs at p = ½; left out: 1 both bad, 2 not labelled." in html
    assert "Not saved" in html
    assert "<html" not in html
    assert Recipe.objects.get(study=world.study).training_rules == {}


@pytest.mark.parametrize(
    ("show", "pairs", "heading"),
    [
        ("preference", 2, "Chosen"),
        ("tied", 1, "Response A"),
        ("both_bad", 1, "Response B"),
        ("no", 2, "Chosen"),
    ],
)
def test_the_pairs_behind_a_count_are_listed(world: PageWorld, show: str, pairs: int, heading: str) -> None:
    html = page(world, rules={**USUAL, "show": show})
    assert html.count('class="example"') == pairs
    assert f"<h3>{heading}</h3>" in html


def test_edits_are_listed_as_the_examples_they_are(world: PageWorld) -> None:
    pair = Pair.objects.order_by("pk")[0]
    edited = Response.objects.create(prompt=pair.prompt, text="A much better answer.")
    Preference.objects.filter(pair=pair).update(edited_response=edited, edited_side=Side.A)
    html = page(world, rules={**USUAL, "edits": "both", "show": "edits"})
    assert "2 edits" in html
    assert html.count("A much better answer.") == 2


def test_a_pair_that_a_lead_decided_without_votes_says_so(world: PageWorld) -> None:
    unjudged = Pair.objects.order_by("-pk")[0]
    resolve_pair(pair=unjudged, verdict=Verdict.A, note="", actor=make_user("lead"))
    assert "Decided by a lead." in page(world)


@pytest.mark.parametrize(
    ("loss", "rules", "said"),
    [
        (
            "ipo",
            {"aggregation": "share"},
            "Soft labels cannot be trained: the loss ipo knows only sure labels",
        ),
        (
            "dpo",
            {"older_weight": "2"},
            "Weight of earlier rounds must be a number from 0 to 1; 0.5 is usual.",
        ),
        (
            "dpo",
            {"older_weight": "x"},
            "Weight of earlier rounds must be a number from 0 to 1; 0.5 is usual.",
        ),
        ("dpo", {"ties": "no"}, "Select a valid choice."),
    ],
)
def test_rules_that_cannot_be_followed_are_marked(
    world: PageWorld, loss: str, rules: dict[str, str], said: str
) -> None:
    Recipe.objects.update(loss=loss)
    assert said in page(world, status=422, rules={**USUAL, **rules})
    assert said in page(world, part=True, rules={**USUAL, **rules})


def test_saved_rules_hold_for_the_study_and_are_in_the_audit_log(world: PageWorld) -> None:
    url = world.url("rounds/1/training-set/save/")
    response = world.lead.post(url, {**USUAL, "ties": "half"}, follow=True)
    assert "Saved: every training set from now on follows these rules." in response.content.decode()
    assert Recipe.objects.get(study=world.study).training_rules["ties"] == "half"
    assert world.study.audit_entries.filter(action="training_rules.changed").count() == 1
    refused = world.lead.post(url, {**USUAL, "ties": "no"}, follow=True)
    assert "Nothing was saved." in refused.content.decode()
    assert Recipe.objects.get(study=world.study).training_rules["ties"] == "half"


def test_training_by_other_rules_leaves_the_studys_as_they_are(world: PageWorld) -> None:
    response = world.lead.post(world.url("rounds/1/training-set/train/"), {**USUAL, "ties": "half"})
    assert response["Location"] == world.url("rounds/1/")
    assert Run.objects.get().receipt["even"] == 1
    assert Recipe.objects.get(study=world.study).training_rules == {}


def test_training_that_is_refused_comes_back_with_the_rules_and_the_reason(world: PageWorld) -> None:
    Recipe.objects.update(loss="hinge")
    response = world.lead.post(
        world.url("rounds/1/training-set/train/"), {**USUAL, "ties": "half"}, follow=True
    )
    assert "Nothing was started. Ties at p = ½ cannot be trained" in response.content.decode()
    assert not Run.objects.exists()


def test_usual_rules_as_json_are_the_forms_usual_ones(world: PageWorld) -> None:
    world.lead.post(world.url("rounds/1/training-set/save/"), USUAL)
    assert Recipe.objects.get(study=world.study).training_rules == Rules().as_json()


def test_the_page_needs_as_many_queries_for_one_pair_as_for_many(world: PageWorld) -> None:
    def queries(other: PageWorld) -> int:
        cache.clear()
        with CaptureQueriesContext(connection) as captured:
            page(other)
        return len(captured)

    one = page_world(train=1)
    label_new_round(one, Verdict.A)
    assert queries(one) == queries(world) <= 20
