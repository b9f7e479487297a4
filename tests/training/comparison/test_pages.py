"""One prompt through all rounds, the figures as plots, and the comparison as files."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Prompt
from tests.training.comparison.worlds import answer_both, judge, text_of
from tests.training.factories import add_prompts, train_prompts
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_policy,
    add_run,
    heldout_prompts,
)
from training.models import Policy, Round, Run, Score

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script> <img src=x onerror=alert(1)>"


@pytest.fixture
def prompts(world: PageWorld, reference: Policy, trained: Policy) -> list[Prompt]:
    found = heldout_prompts(world.study)
    for prompt in found:
        answer_both(prompt, reference=reference, trained=trained, before="the red car", after="the blue car")
    return found


def queries(world: PageWorld, path: str) -> int:
    with CaptureQueriesContext(connection) as captured:
        text_of(world, path)
    return len(captured)


def in_sweep(world: PageWorld, *, betas: dict[int, float], parent: Policy, number: int) -> Round:
    """A round whose runs made policies of these numbers with these β."""
    item = world.study.rounds.create(number=number, sampled_policy=parent, state=Round.State.TRAINED)
    for place, (policy_number, beta) in enumerate(betas.items(), start=1):
        run = add_run(item, number=place)
        Run.objects.filter(pk=run.pk).update(config={"loss": {"name": "dpo", "beta": beta}})
        add_policy(world.study, number=policy_number, run=run)
        Policy.objects.filter(study=world.study, number=policy_number).update(parent=parent)
    return item


def stages_of(html: str) -> dict[str, str]:
    """The text of each stage by its policy."""
    parts = html.split("<h2>")[1:]
    return {part.partition("<")[0]: " ".join(re.sub(r"<[^>]+>", " ", part).split()) for part in parts}


def test_prompt_is_shown_through_all_policies_beside_their_parents(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    Policy.objects.filter(pk=trained.pk).update(parent=reference)
    item = in_sweep(world, betas={2: 0.05, 3: 0.3}, parent=trained, number=7)
    second, third = Policy.objects.filter(study=world.study, number__in=(2, 3))
    Round.objects.filter(pk=item.pk).update(chosen_policy=third)
    add_heldout_response(second, prompts[0], "nothing of the sort", was_cut=True, log_ratio=2.0)
    add_heldout_response(third, prompts[0], "the blue boat")
    html = text_of(world, f"compare/prompts/{prompts[0].pk}/")
    stages = stages_of(html)
    assert list(stages) == ["SFT reference", "Policy 1", "Policy 2", "Policy 3"]
    assert "the <ins>blue</ins> car" in html
    assert "the blue <ins>boat</ins>" in html
    assert "33 % of words differ from SFT reference, its parent" in stages["Policy 1"]
    assert "33 % of words differ from Policy 1, its parent" in stages["Policy 3"]
    assert "made in round 7, β 0.05 not chosen" in stages["Policy 2"]
    assert "made in round 7, β 0.3 chosen" in stages["Policy 3"]
    assert html.count("stage-passed") == 1
    assert "cut at the length limit" in stages["Policy 2"]
    assert "log-ratio +2.0 nats" in stages["Policy 2"]
    assert "3 tokens, 3 words" in stages["Policy 3"]
    assert "<ins>" not in text_of(world, f"compare/prompts/{prompts[0].pk}/?diff=0")


def test_policy_whose_round_has_not_chosen_is_neither_chosen_nor_passed_over(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    in_sweep(world, betas={2: 0.1}, parent=trained, number=7)
    second = Policy.objects.get(study=world.study, number=2)
    add_heldout_response(second, prompts[0], "the blue boat")
    stage = stages_of(text_of(world, f"compare/prompts/{prompts[0].pk}/"))["Policy 2"]
    assert "made in round 7, β 0.1" in stage
    assert "chosen" not in stage


def test_policy_without_an_answer_of_its_parent_is_beside_its_nearest_ancestor(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    prompt = heldout_prompts(world.study)[0]
    Policy.objects.filter(pk=trained.pk).update(parent=reference)
    in_sweep(world, betas={2: 0.1}, parent=trained, number=7)
    add_heldout_response(reference, prompt, "the red car")
    add_heldout_response(Policy.objects.get(study=world.study, number=2), prompt, "the red boat")
    stage = stages_of(text_of(world, f"compare/prompts/{prompt.pk}/"))["Policy 2"]
    assert "differ from SFT reference, its ancestor" in stage


def test_next_and_previous_prompt_are_those_of_the_list_it_was_opened_from(
    world: PageWorld, prompts: list[Prompt]
) -> None:
    html = text_of(world, f"compare/prompts/{prompts[1].pk}/?order=prompt&tag=")
    assert "2 of 4" in html
    assert f'rel="prev" href="{world.url(f"compare/prompts/{prompts[0].pk}/")}?order=prompt' in html
    assert f'rel="next" href="{world.url(f"compare/prompts/{prompts[2].pk}/")}?order=prompt' in html


def test_train_prompt_shows_the_responses_of_its_rounds(world: PageWorld, reference: Policy) -> None:
    prompt = train_prompts(world.study)[0]
    sampled = add_heldout_response(reference, prompt, "sampled to be labelled")
    sampled.round = world.study.rounds.create(number=1, sampled_policy=reference)
    sampled.save()
    html = text_of(world, f"compare/prompts/{prompt.pk}/")
    assert "sampled in round 1" in html
    assert "sampled to be labelled" in html
    assert "No policy has answered" in text_of(world, f"compare/prompts/{train_prompts(world.study)[1].pk}/")


def test_prompt_pages_lead_to_it(world: PageWorld, prompts: list[Prompt]) -> None:
    address = world.url(f"compare/prompts/{prompts[0].pk}/")
    assert address in text_of(world, f"prompts/{prompts[0].pk}/")
    assert address in text_of(world, "compare/")


def test_hostile_text_stays_text_in_the_explorer(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    prompt = heldout_prompts(world.study)[0]
    Prompt.objects.filter(pk=prompt.pk).update(messages=[{"role": "user", "content": HOSTILE}])
    answer_both(prompt, reference=reference, trained=trained, before=HOSTILE, after=f"{HOSTILE} more")
    for query in ("", "?diff=0"):
        main = text_of(world, f"compare/prompts/{prompt.pk}/{query}").partition("<main")[2]
        assert "<script>" not in main
        assert "<img" not in main


def test_plots_come_with_their_values_and_one_sentence_each(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    html = text_of(world, "compare/figures/")
    assert html.count('<svg class="policy-chart"') == 4
    assert "The words of a response" not in html
    assert re.findall(r"<h2>([^<]+)</h2><p>[^<]+[.?]</p>", html) == [
        "Mean length, in tokens",
        "Mean length, in words",
        "Distinct-2, of word pairs",
        "Cut at the length limit",
        "KL to SFT, in nats a response",
        "Implicit reward margin on held-out pairs",
    ]
    assert "Nothing has been scored yet" in html
    row = re.search(
        r"Mean length, in words.*?<tbody><tr><th scope=\"row\">SFT</th><td class=\"number\">([^<]+)<",
        html,
        re.DOTALL,
    )
    assert row is not None
    assert row.group(1) == "3.00"


def test_distinct_pairs_of_a_policy_of_one_word_are_not_counted(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    for prompt in heldout_prompts(world.study):
        answer_both(prompt, reference=reference, trained=trained, before="the red car", after="car")
    table = text_of(world, "compare/").partition("<tbody>")[2].partition("</tbody>")[0]
    assert re.findall(r'data-label="Distinct-2">([^<]+)<', table) == ["0.25", "– "]
    assert table.count("too few word pairs") == 1
    plot = text_of(world, "compare/figures/").partition('id="plot-distinct"')[2].partition("</figure>")[0]
    assert re.findall(r'<th scope="row">(\w+)</th><td class="number">([^<]+)<', plot) == [
        ("SFT", "0.25"),
        ("1", "–"),
    ]


def test_margin_on_held_out_pairs_is_betas_times_the_difference_of_log_ratios(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    """β is 0.2; the chosen response has Δ = 3, the rejected one 1: the margin is 0.2·(3 − 1) = 0.4."""
    prompt = heldout_prompts(world.study)[0]
    before = add_heldout_response(reference, prompt, "rejected")
    after = add_heldout_response(trained, prompt, "chosen", log_ratio=3.0)
    judge(before, after, "after")
    html = text_of(world, "compare/figures/")
    assert "No judged evaluation pair has both" in html
    Score.objects.create(sampled=before, policy=trained, policy_logp=-9.0, reference_logp=-10.0)
    plot = text_of(world, "compare/figures/").partition('id="plot-pairs"')[2]
    assert '<th scope="row">1</th><td class="number">0.40</td>' in plot


def test_explorer_and_figures_need_the_same_number_of_queries_however_much_there_is(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    explorer = f"compare/prompts/{prompts[0].pk}/"
    for path in (explorer, "compare/figures/"):
        text_of(world, path)
    few = queries(world, explorer), queries(world, "compare/figures/")
    add_prompts(world.study, train=0, heldout=20)
    for number in range(2, 6):
        policy = add_policy(world.study, number=number)
        for prompt in heldout_prompts(world.study):
            add_heldout_response(policy, prompt, f"{number} answers", log_ratio=0.5)
    for path in (explorer, "compare/figures/"):
        text_of(world, path)  # measures what is new, once
    assert (queries(world, explorer), queries(world, "compare/figures/")) == few
    assert max(few) <= 17


def exported(world: PageWorld, path: str) -> str:
    response = world.viewer.get(world.url(path))
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()  # type: ignore[attr-defined]


def test_export_holds_what_is_filtered_with_its_provenance(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    Policy.objects.filter(pk=trained.pk).update(adapter_sha256="f" * 64)
    Prompt.objects.filter(pk=prompts[2].pk).update(tags=["code"])
    second = add_heldout_response(trained, prompts[2], "a second sample", slot=1, log_ratio=2.0)
    second.settings = {"temperature": 0.7}
    second.save()
    before, after = (
        policy.sampled_responses.get(prompt=prompts[2], slot=0) for policy in (reference, trained)
    )
    judge(before, after, "after")
    (line,) = exported(world, "compare/export.jsonl?tag=code").splitlines()
    record = json.loads(line)
    assert record["prompt"] == prompts[2].pk
    assert record["compared"]["changed_share"] == pytest.approx(1 / 3)
    assert record["compared"]["votes_to"] == 1
    assert [(one["policy"], one["sample"]) for one in record["responses"]] == [(0, 1), (1, 1), (1, 2)]
    last = record["responses"][-1]
    assert last["adapter_sha256"] == "f" * 64
    assert last["settings"] == {"temperature": 0.7}
    assert last["implicit_reward"] == pytest.approx(0.4)
    rows = list(csv.DictReader(io.StringIO(exported(world, "compare/export.csv?tag=code"))))
    assert [row["response"] for row in rows] == ["the red car", "the blue car", "a second sample"]
    assert json.loads(rows[2]["settings"]) == {"temperature": 0.7}


def test_export_of_everything_is_in_the_order_of_the_page(world: PageWorld, prompts: list[Prompt]) -> None:
    lines = [json.loads(line) for line in exported(world, "compare/export.jsonl?order=prompt").splitlines()]
    assert [line["prompt"] for line in lines] == [prompt.pk for prompt in prompts]


def test_cells_that_a_spreadsheet_would_run_are_made_text(
    world: PageWorld, reference: Policy, trained: Policy
) -> None:
    add_heldout_response(trained, heldout_prompts(world.study)[0], '=HYPERLINK("http://evil.example")')
    rows = list(csv.DictReader(io.StringIO(exported(world, "compare/export.csv"))))
    assert rows[0]["response"] == '\'=HYPERLINK("http://evil.example")'
