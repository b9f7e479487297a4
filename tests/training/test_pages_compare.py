"""The comparison: columns, word diff, figures, filters; hostile model output stays text."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Prompt
from tests.training.factories import add_prompts, make_round
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_job,
    add_policy,
    add_run,
    heldout_prompts,
    page_world,
)
from training.models import Job, Policy, Round

pytestmark = pytest.mark.django_db
HOSTILE = (
    "<script>alert(1)</script> <img src=x onerror=alert(1)> ![i](http://evil.example/i.png) "
    "[link](javascript:alert(1)) <iframe src=//evil.example></iframe> <style>body{display:none}</style>"
)


@pytest.fixture
def world() -> PageWorld:
    return page_world(heldout=2)


@pytest.fixture
def reference(world: PageWorld) -> Policy:
    return world.study.policies.get(number=0)


@pytest.fixture
def trained(world: PageWorld) -> Policy:
    item = make_round(world.study, state=Round.State.TRAINED)
    return add_policy(world.study, run=add_run(item))


def page(world: PageWorld, query: str = "") -> str:
    response = world.lead.get(world.url(f"compare/{query}"))
    assert response.status_code == 200
    html: str = response.content.decode()
    return html


def answered(world: PageWorld, reference: Policy, trained: Policy) -> tuple[Prompt, Prompt]:
    """Two prompts; the policies answer the first differently and the second in the same words."""
    first, second = heldout_prompts(world.study)
    add_heldout_response(reference, first, "The cat sat on the mat")
    add_heldout_response(trained, first, "A dog sat on the mat")
    add_heldout_response(reference, second, "Just the same")
    add_heldout_response(trained, second, "Just the same")
    return first, second


def prompt_order(html: str) -> list[int]:
    return [int(number) for number in re.findall(r'id="prompt-(\d+)"', html)]


def test_words_that_differ_are_marked_in_the_compared_columns(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    answered(world, reference, trained)
    html = page(world)
    assert "<del>The cat</del> sat on the mat" in html
    assert "<ins>A dog</ins> sat on the mat" in html


def test_diff_can_be_switched_off_and_turned_round(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    answered(world, reference, trained)
    assert "<del>" not in page(world, "?diff=0")
    html = page(world, "?from=1&to=0")
    assert "<del>A dog</del>" in html
    assert "<ins>The cat</ins>" in html


def test_most_changed_prompt_comes_first_unless_import_order_is_asked_for(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    first, second = heldout_prompts(world.study)
    for policy, text in ((reference, "one two three"), (trained, "one two four")):
        add_heldout_response(policy, first, text)
    for policy, text in ((reference, "one two three"), (trained, "five six seven")):
        add_heldout_response(policy, second, text)
    html = page(world)
    assert prompt_order(html) == [second.pk, first.pk]
    assert "100\N{NO-BREAK SPACE}% of words differ" in html
    assert "33\N{NO-BREAK SPACE}% of words differ" in html  # 1 − 2·2/6
    assert prompt_order(page(world, "?order=prompt")) == [first.pk, second.pk]


def test_figures_are_means_over_the_policy_s_own_responses(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    """Tokens (10, 20, 30, 40) have mean 25, one of four is cut; log-ratios (1, 2, 3, 6) have mean 3 nats.

    The run's β is 0.2, so the reward is 0.2·3 = 0.6; per token it is (1 + 2 + 3 + 6) / 100 = 0.12 nats.
    """
    numbers = iter([(10, 1.0), (20, 2.0), (30, 3.0), (40, 6.0)])
    for prompt in heldout_prompts(world.study):
        for slot in (0, 1):
            tokens, log_ratio = next(numbers)
            add_heldout_response(
                trained,
                prompt,
                "a b a b",
                slot=slot,
                tokens=tokens,
                was_cut=tokens == 40,
                log_ratio=log_ratio,
            )
    cells = re.findall(r"<td[^>]*>(?:<strong>)?([^<]*)<", page(world, "?policy=1"))
    expected = ["4", "25.0", "4.0", "25 %", "0.33", "+0.60", "3.0", "0.120", "90 %", "+1.25"]
    assert [cell.replace("\N{NO-BREAK SPACE}", " ") for cell in cells[:10]] == expected


def test_score_of_another_policy_on_a_response_is_not_mixed_in(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    prompt = heldout_prompts(world.study)[0]
    sampled = add_heldout_response(trained, prompt, "text", log_ratio=1.0)
    sampled.scores.create(policy=reference, policy_logp=-50.0, reference_logp=-10.0)
    html = page(world, "?policy=1")
    assert "r +0.20" in html
    assert "+0.20" in html
    assert "−8.00" not in html


@pytest.mark.parametrize("query", ["", "?diff=0", "?policy=0"])
def test_hostile_model_output_is_harmless_text(
    world: PageWorld, reference: Policy, trained: Policy, query: str
) -> None:
    prompt = heldout_prompts(world.study)[0]
    Prompt.objects.filter(pk=prompt.pk).update(messages=[{"role": "user", "content": HOSTILE}])
    for policy, text in ((reference, HOSTILE), (trained, f"{HOSTILE} and <b>more</b>")):
        add_heldout_response(policy, prompt, text)
    main = page(world, query).partition("<main")[2]
    for tag in ("<script>", "<img", "<iframe", "<style", 'href="javascript:', "<b>"):
        assert tag not in main
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in main


def test_second_sample_is_shown_on_request(world: PageWorld, reference: Policy) -> None:
    prompt = heldout_prompts(world.study)[0]
    add_heldout_response(reference, prompt, "the first sample")
    add_heldout_response(reference, prompt, "the second sample", slot=1)
    html = page(world)
    assert "the first sample" in html
    assert "the second sample" not in html
    html = page(world, "?sample=2")
    assert "the second sample" in html
    assert '<option value="2" selected>' in html


def test_tag_and_text_narrow_the_prompts(world: PageWorld, reference: Policy, trained: Policy) -> None:
    first, second = answered(world, reference, trained)
    Prompt.objects.filter(pk=second.pk).update(tags=["code"])
    html = page(world, "?tag=code")
    assert prompt_order(html) == [second.pk]
    assert "Over 1 held-out prompt tagged code" in html
    assert prompt_order(page(world, "?text=DOG")) == [first.pk]
    assert "No prompt matches." in page(world, "?text=elephant")


def test_columns_are_chosen_by_policy_number(world: PageWorld, reference: Policy, trained: Policy) -> None:
    answered(world, reference, trained)
    html = page(world, "?policy=1")
    assert "A dog sat on the mat" in html
    assert "The cat" not in html
    assert '<input type="checkbox" name="policy" value="0">' in html


def test_many_policies_begin_with_the_reference_the_newest_and_its_parent(
    world: PageWorld, reference: Policy
) -> None:
    for number in range(1, 8):
        add_policy(world.study, number=number)
    add_heldout_response(reference, heldout_prompts(world.study)[0], "text")
    checked = re.findall(r'name="policy" value="(\d+)" checked', page(world))
    assert checked == ["0", "6", "7"]
    fourth = world.study.policies.get(number=4)
    world.study.policies.filter(number=7).update(parent=fourth)
    assert re.findall(r'name="policy" value="(\d+)" checked', page(world)) == ["0", "4", "7"]
    checked = re.findall(
        r'name="policy" value="(\d+)" checked', page(world, "?policy=1&policy=2&policy=3&policy=4&policy=5")
    )
    assert checked == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "query", ["?policy=x&policy=99", "?sample=0&page=-3", "?page=99&order=x&from=9&to=x", "?sample=7"]
)
def test_link_that_cannot_be_read_falls_back(
    world: PageWorld, reference: Policy, trained: Policy, query: str
) -> None:
    answered(world, reference, trained)
    assert len(prompt_order(page(world, query))) == 2


def test_responses_too_long_for_a_diff_are_shown_whole(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    prompt = heldout_prompts(world.study)[0]
    add_heldout_response(reference, prompt, "the. a. " * 400)
    add_heldout_response(trained, prompt, "a. the. " * 400)
    html = page(world)
    assert "too long to be compared on this page" in html
    assert "<del>" not in html


def test_study_without_held_out_prompts_says_what_to_do() -> None:
    html = page(page_world(heldout=0))
    assert "No held-out prompts" in html


def test_before_the_first_round_the_page_says_how_responses_come(world: PageWorld) -> None:
    assert "Open round 1 to sample the SFT reference" in page(world)


def test_held_out_sampling_under_way_is_told_with_its_progress(world: PageWorld, reference: Policy) -> None:
    add_job(world.study, kind=Job.Kind.HELDOUT, state=Job.State.RUNNING, policy=reference, done=1, total=4)
    html = page(world)
    assert "Held-out responses of the SFT reference: 1 of 4 responses." in html
    assert "The first responses appear here as they come." in html


def test_failed_held_out_sampling_is_told_with_its_cause(world: PageWorld, reference: Policy) -> None:
    job = add_job(
        world.study,
        kind=Job.Kind.HELDOUT,
        state=Job.State.FAILED,
        policy=reference,
        cause="The engine is gone.",
    )
    html = page(world)
    assert "The engine is gone." in html
    assert job.study_id == world.study.pk


def test_pages_need_the_same_number_of_queries_however_much_there_is(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    def queries(query: str = "") -> int:
        with CaptureQueriesContext(connection) as captured:
            page(world, query)
        return len(captured)

    answered(world, reference, trained)
    page(world)
    few = queries()
    add_prompts(world.study, train=0, heldout=40)
    third = add_policy(world.study, number=2)
    for prompt in heldout_prompts(world.study)[2:]:
        for policy in (reference, trained, third):
            add_heldout_response(policy, prompt, f"{policy.number} answers", log_ratio=0.5)
    page(world)  # measures what is new, once
    assert queries() == queries("?page=3") == few
    assert few <= 21
    assert len(prompt_order(page(world, "?page=3"))) == 12


@pytest.mark.parametrize(("who", "status"), [("viewer", 200), ("annotator", 403), ("outsider", 404)])
def test_comparison_is_for_leads_and_viewers(world: PageWorld, who: str, status: int) -> None:
    assert getattr(world, who).get(world.url("compare/")).status_code == status
