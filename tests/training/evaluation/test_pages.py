"""The pages of evaluation, gate and policies, for the people who read them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotate.models import Pair, Preference, Response, Verdict
from annotate.services.pairs import add_pair, add_response
from tests.training.evaluation.world import (
    answer_all,
    judge_all,
    judged_policy,
    reference_of,
    trained_policy,
)
from tests.training.factories import label, make_user, train_prompts
from tests.training.page_world import PageWorld, page_world
from training.models import EvaluationPair, EvaluationPlan, GateOverride, Job, Policy, Run
from training.selectors.evaluation import study_evaluation
from training.services.evaluation_pairs import ask_for_more

pytestmark = pytest.mark.django_db


@pytest.fixture
def world() -> PageWorld:
    found = page_world(heldout=30)
    answer_all(reference_of(found.study), text="the reference says {} to it".format)
    return found


def page(world: PageWorld, rest: str) -> str:
    response = world.lead.get(world.url(rest), follow=True)
    assert response.status_code == 200
    html: str = response.content.decode()
    return html


def plain(html: str) -> str:
    return html.replace("\N{NO-BREAK SPACE}", " ").replace("&#x27;", "'")


def test_a_study_without_policies_says_what_will_be_there(world: PageWorld) -> None:
    html = page(world, "evaluation/")
    assert "There is no trained policy yet" in html
    assert "SFT reference" in page(world, "policies/")


def test_the_page_says_whether_the_newest_policy_is_better_and_how_sure_that_is(world: PageWorld) -> None:
    judged_policy(world.study, won=lambda row: row.prompt_id % 4 != 0)
    html = plain(page(world, "evaluation/"))
    assert "Policy 1 is better than the SFT reference" in html
    assert "30 prompts" in html
    assert "Bradley–Terry" in html


def test_more_verdicts_than_there_are_prompts_left_is_said_to_be_so(world: PageWorld) -> None:
    EvaluationPlan.objects.update_or_create(study=world.study, defaults={"half_width": 0.05})
    judged_policy(world.study, won=lambda row: row.prompt_id % 2 == 0, pairs=20)
    html = plain(page(world, "evaluation/"))
    assert "10 held-out prompts left" in html
    EvaluationPlan.objects.filter(study=world.study).update(half_width=0.5)
    assert "held-out prompts left" not in page(world, "evaluation/")


def asked_policy(world: PageWorld, **result: Any) -> Policy:
    """A policy whose 30 blind pairs wait for a verdict."""
    policy = trained_policy(world.study, number=1, **result)
    answer_all(policy, text="the policy says {}".format)
    ask_for_more(policy=policy, pairs=30, actor=None)
    return policy


def judge_with(world: PageWorld, *, people: int, rules: list[str]) -> None:
    """Have the policy judged better on every pair, by so many people and an annotator of each rule."""
    policy = asked_policy(world)
    Pair.objects.filter(purpose=Pair.Purpose.EVALUATE).update(labels_wanted=people + len(rules))
    judges = [make_user("judge") for _ in range(people)]
    for judge in [*judges, *(make_user("rule", simulated_rule=rule) for rule in rules)]:
        judge_all(policy, won=lambda row: True, annotator=judge)


SIMULATED = "simulated annotators (rule “longer”)"
MIXED = "people (30 verdicts) and simulated annotators (60 verdicts, rules “longer”, “shorter”)"


@pytest.mark.parametrize(
    ("people", "rules", "judges", "said", "marked"),
    [
        (1, [], "people", "Policy 1 is better than the SFT reference: people prefer it in 100 %", None),
        (
            0,
            ["longer"],
            SIMULATED,
            "The rule “longer” prefers Policy 1 to the SFT reference: in 100 % of comparisons on 30 prompts",
            ">simulated</span>",
        ),
        (
            1,
            ["shorter", "longer"],
            MIXED,
            f"Policy 1 is better than the SFT reference: {MIXED} prefer it in 100 %",
            "60 of 90 verdicts simulated",
        ),
    ],
)
def test_every_page_with_a_win_rate_says_who_judged(
    world: PageWorld, people: int, rules: list[str], judges: str, said: str, marked: str | None
) -> None:
    judge_with(world, people=people, rules=rules)
    for path in ("evaluation/", ""):
        assert said in plain(page(world, path))
    for path in ("evaluation/", "policies/", "policies/1/", ""):
        html = plain(page(world, path))
        assert (f'title="Judged by {judges}">' in html) == bool(rules)
        assert marked is None or marked in html
    gate = plain(page(world, "policies/1/"))
    assert (f"on 30 prompts, judged by {judges};" in gate) == bool(rules)


@pytest.mark.parametrize(
    ("won", "said"),
    [
        (
            lambda row: True,
            f"Policy 1 fails its gate, though {SIMULATED} prefer it to the SFT reference in 100 % of "
            "comparisons on 30 prompts (95 % interval 89 % to 100 %).",
        ),
        (
            lambda row: False,
            f"Policy 1 fails its gate, and {SIMULATED} prefer it to the SFT reference in only",
        ),
        (
            lambda row: row.prompt_id % 2,
            "Policy 1 fails its gate; whether the rule “longer” prefers it to the SFT reference cannot",
        ),
        (None, "Policy 1 fails its gate, and nobody has compared it with the SFT reference yet."),
    ],
)
def test_a_failing_gate_comes_before_what_the_verdicts_say_with_the_way_out(
    world: PageWorld, won: Callable[[EvaluationPair], bool] | None, said: str
) -> None:
    policy = asked_policy(world, log_ratio_per_token_chosen=-3.0)
    if won:
        judge_all(policy, won=won, annotator=make_user("rule", simulated_rule="longer"))
    for path in ("evaluation/", ""):
        html = plain(page(world, path))
        assert said in html
        assert "is better than" not in html
        remedy = html.partition("gate-remedy")[2].partition("</p>")[0]
        assert f'href="{world.url("compare/")}?policy=0&amp;policy=1"' in remedy
        assert f'href="{world.url("policies/0/#gate")}"' in remedy


def test_the_way_out_of_a_failing_gate_is_the_newest_policy_that_does_not_fail(world: PageWorld) -> None:
    first = trained_policy(world.study, number=1)
    second = trained_policy(world.study, number=2, parent=first)
    third = trained_policy(world.study, number=3, parent=second, log_ratio_per_token_chosen=-3.0)
    trained_policy(world.study, number=4, parent=third, log_ratio_per_token_chosen=-3.0)
    assert study_evaluation(world.study).fallback == second
    assert "the newest policy that does not fail" in page(world, "evaluation/")


def test_an_open_question_says_that_rules_judged_it(world: PageWorld) -> None:
    judge = make_user("rule", simulated_rule="longer")
    policy = asked_policy(world)
    judge_all(policy, won=lambda row: row.prompt_id % 2 == 0, annotator=judge)
    assert f", judged by {SIMULATED}." in plain(page(world, "evaluation/"))


def test_a_policy_that_is_level_is_not_called_better(world: PageWorld) -> None:
    judged_policy(world.study, won=lambda row: row.prompt_id % 2 == 0)
    html = plain(page(world, "evaluation/"))
    assert "cannot be said yet" in html
    assert "prompts" in html


def test_verdicts_of_people_who_are_left_out_of_training_do_not_count(world: PageWorld) -> None:
    judged_policy(world.study, won=lambda row: True)
    judge = EvaluationPair.objects.select_related("pair").first()
    assert judge is not None
    assert judge.pair is not None
    annotator = judge.pair.preferences.get().annotator
    world.study.memberships.create(user=annotator, role="annotator", in_training_sets=False)
    assert study_evaluation(world.study).tally.verdicts == 0


def test_a_withdrawn_pair_does_not_count(world: PageWorld) -> None:
    judged_policy(world.study, won=lambda row: True)
    Pair.objects.filter(purpose=Pair.Purpose.EVALUATE).update(state=Pair.State.WITHDRAWN)
    assert study_evaluation(world.study).tally.verdicts == 0


def test_rates_are_shown_by_tag(world: PageWorld) -> None:
    for number, prompt in enumerate(world.study.prompts.filter(split="heldout")):
        prompt.tags = ["poem"] if number % 3 else ["poem", "code"]
        prompt.save()
    judged_policy(world.study, won=lambda row: True)
    rest = page(world, "evaluation/").partition("by tag")[2]
    assert rest.index("poem") < rest.index("code")
    assert "10 prompts" in rest


def test_more_pairs_can_be_asked_by_leads(world: PageWorld) -> None:
    policy = trained_policy(world.study, number=1)
    answer_all(policy, text="policy {}".format)
    response = world.lead.post(world.url("policies/1/evaluate/"), {"pairs": "20"}, follow=True)
    assert "20 more pairs of Policy 1 wait in the labelling queue." in response.content.decode()
    response = world.lead.post(world.url("policies/1/evaluate/"), {"pairs": "many"}, follow=True)
    assert "must lie between 1 and" in response.content.decode()


def test_what_a_lead_asked_for_says_whom_it_meets_and_can_be_taken_back(world: PageWorld) -> None:
    first = trained_policy(world.study, number=1)
    second = trained_policy(world.study, number=2, parent=first)
    for policy in (first, second):
        answer_all(policy, text=f"policy {policy.number} {{}}".format)
    world.lead.post(world.url("policies/2/evaluate/"), {"pairs": "20"})
    html = plain(page(world, "evaluation/"))
    assert "Of the 20 pairs of Policy 2 that you asked for last, 20 still wait in the queue" in html
    assert "10 against the SFT reference, 10 against Policy 1." in html
    assert "take-back" not in world.viewer.get(world.url("evaluation/")).content.decode()
    taken = world.lead.post(world.url("evaluation/take-back/"), follow=True).content.decode()
    assert "20 pairs have left the labelling queue" in taken
    assert 'id="take-back"' not in taken
    assert not Pair.objects.filter(purpose=Pair.Purpose.EVALUATE, state=Pair.State.OPEN).exists()
    again = world.lead.post(world.url("evaluation/take-back/"), follow=True).content.decode()
    assert "Nothing is left to take back" in again


def test_the_plan_is_typed_in_per_cent_and_an_empty_threshold_is_not_checked(world: PageWorld) -> None:
    values = {"evaluation_share": "25", "half_width": "5", "cut_share": "80", "kl": "20"}
    values |= {"win_rate_over_reference": "55"}
    assert world.lead.post(world.url("evaluation/plan/"), values).status_code == 302
    plan = EvaluationPlan.objects.get(study=world.study)
    assert (plan.evaluation_share, plan.half_width, plan.win_rate_over_reference) == (0.25, 0.05, 0.55)
    assert plan.cut_share == 0.8
    assert (plan.kl, plan.length_growth, plan.displacement) == (20.0, None, None)
    assert world.study.audit_entries.filter(action="evaluation_plan.changed", actor=world.lead_user).exists()
    html = page(world, "evaluation/plan/")
    assert 'value="25"' in html
    assert 'value="55"' in html


def test_a_plan_out_of_range_is_refused_with_the_remedy(world: PageWorld) -> None:
    values = {"evaluation_share": "95", "half_width": "10", "kl": "far"}
    response = world.lead.post(world.url("evaluation/plan/"), values)
    assert response.status_code == 422
    html = response.content.decode()
    assert "must lie between 0 and 80; 20 is usual." in html
    assert "must lie between 0.1 and 100000; 50 is usual." in html
    assert not EvaluationPlan.objects.exists()


def test_the_policy_page_shows_lineage_gate_settings_and_the_serving_command(world: PageWorld) -> None:
    first = trained_policy(world.study, number=1)
    second = trained_policy(world.study, number=2, parent=first)
    Policy.objects.filter(pk=second.pk).update(adapter_path="policies/two")
    html = page(world, "policies/2/")
    for number in (0, 1, 2):
        assert f'href="{world.url(f"policies/{number}/")}"' in html
    assert "Nobody has compared it with the SFT reference yet." in html
    assert f"--lora-modules {second.served_name}={settings.STUDIO_HOME}/policies/two" in html
    assert "optimizer.learning_rate" in html
    assert "2.13.0" in html


def test_a_policy_whose_responses_find_no_end_fails_and_the_pages_show_the_share(world: PageWorld) -> None:
    policy = trained_policy(world.study, number=1)
    answer_all(policy, text=lambda number: f"ZZZZ {number}")
    assert plain(page(world, "policies/1/")).count("0 % of its responses are cut at the length limit") == 1
    Response.objects.filter(sampled__policy=policy).update(was_cut=True)
    cache.clear()
    for path in ("", "policies/1/"):
        html = plain(page(world, path))
        assert "100 % of its responses are cut at the length limit, 0 % of the SFT reference's" in html
        figures = html.partition("Cut at the limit")[2].partition("</div>")[0]
        assert "100 %" in figures
        assert "SFT 0 %" in figures
        assert "It no longer ends its text" in html


def test_the_reference_has_a_page_without_a_gate(world: PageWorld) -> None:
    html = page(world, "policies/0/")
    assert "vllm serve owner/model --dtype bfloat16" in html
    assert "--enable-lora" not in html
    assert "Open round 1 on the SFT reference" in html


def test_a_failing_policy_is_opened_on_only_with_a_reason_and_the_reason_stays(world: PageWorld) -> None:
    trained_policy(world.study, number=1, loss_last=40.0, steps=2)
    refused = world.lead.post(world.url("rounds/open/"), follow=True)
    assert refused.redirect_chain[-1][0] == world.url("policies/1/")
    html = refused.content.decode()
    assert "Policy 1 fails its gate. To go on from it all the same, write below why." in html
    assert html.count("Its run diverged") == 1  # in the list of checks alone
    assert 'name="reason"' in refused.content.decode()
    world.lead.post(world.url("rounds/open/"), {"policy": "1", "reason": "To see <b>collapse</b>."})
    assert GateOverride.objects.get().actor == world.lead_user
    for rest in ("policies/1/", "policies/"):
        assert "Overridden" in page(world, rest)
    assert "To see &lt;b&gt;collapse&lt;/b&gt;." in page(world, "policies/1/")


def test_a_viewer_reads_and_cannot_act(world: PageWorld) -> None:
    trained_policy(world.study, number=1)
    for rest in ("evaluation/", "policies/", "policies/1/"):
        html = world.viewer.get(world.url(rest)).content.decode()
        assert '<form method="post"' not in html.partition('id="content"')[2]
    assert world.viewer.get(world.url("policies/1/examples/")).status_code == 403


def training_run(world: PageWorld, *, pairs: int) -> Run:
    """Policy 1 with `pairs` examples in its run directory, each judged by one person."""
    policy = trained_policy(world.study, number=1)
    prompt, ann = train_prompts(world.study)[0], make_user("ann")
    lines = []
    for number in range(pairs):
        first, second = (add_response(prompt=prompt, text=f"{side} {number}", was_cut=False) for side in "xy")
        pair = add_pair(prompt=prompt, response_a=first, response_b=second, batch=1)
        label(pair, annotator=ann, verdict=Verdict.B)
        texts = {"chosen": second.text, "rejected": first.text}
        messages = {side: [{"role": "assistant", "content": text}] for side, text in texts.items()}
        lines.append({"id": f"pair-{pair.pk}", "prompt": prompt.messages, **messages})
    run = policy.run
    folder = Path(settings.STUDIO_HOME) / run.directory
    folder.mkdir(parents=True)
    (folder / "examples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return run


def test_examples_are_listed_down_to_the_single_judgements(world: PageWorld) -> None:
    training_run(world, pairs=25)
    html = page(world, "policies/1/examples/?page=2")
    assert "21–25 of 25 examples" in html
    assert html.count("the chosen one is better") == 5
    assert "<strong>Ann</strong>" in html


def test_an_edit_is_listed_with_the_judgement_of_the_pair_it_was_made_of(world: PageWorld) -> None:
    run = training_run(world, pairs=1)
    path = Path(settings.STUDIO_HOME) / run.directory / "examples.jsonl"
    edited = {**json.loads(path.read_text()), "id": f"edit-{Preference.objects.get().pk}"}
    path.write_text(json.dumps(edited) + "\n")
    html = page(world, "policies/1/examples/")
    assert "of the pair as it was sampled: B is better" in html
    assert '<span class="tag">edited</span>' in html


def test_a_run_directory_that_is_gone_is_said(world: PageWorld) -> None:
    trained_policy(world.study, number=1)
    assert "restore it from a backup" in page(world, "policies/1/examples/")


def test_the_adapter_is_sent_as_a_whole_archive(world: PageWorld) -> None:
    policy = trained_policy(world.study, number=1)
    folder = Path(settings.STUDIO_HOME) / "policies" / "one"
    folder.mkdir(parents=True)
    files = {"adapter_model.safetensors": b"w" * 3_000_001, "README.md": b"card", "manifest.json": b"{}"}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "link").symlink_to("/etc/hostname")
    Policy.objects.filter(pk=policy.pk).update(adapter_path="policies/one")
    response = world.lead.get(world.url("policies/1/adapter.tar"))
    body = b"".join(response.streaming_content)  # type: ignore[attr-defined]
    assert len(body) == int(response.headers["Content-Length"])
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        found = {Path(item.name).name: archive.extractfile(item) for item in archive.getmembers()}
        assert {name: stream.read() for name, stream in found.items() if stream} == files


@pytest.mark.parametrize("path", ["", "policies/none", "../outside", "/etc"])
def test_nothing_outside_the_studio_is_ever_sent(world: PageWorld, path: str) -> None:
    policy = trained_policy(world.study, number=1)
    (Path(settings.STUDIO_HOME).parent / "outside").mkdir(exist_ok=True)
    Policy.objects.filter(pk=policy.pk).update(adapter_path=path)
    assert world.lead.get(world.url("policies/1/adapter.tar")).status_code == 302


def test_merging_is_a_job_that_can_be_started_once(world: PageWorld) -> None:
    policy = trained_policy(world.study, number=1)
    Policy.objects.filter(pk=policy.pk).update(adapter_path="policies/one")
    world.lead.post(world.url("policies/1/merge/"))
    assert Job.objects.get(kind=Job.Kind.MERGE).policy == policy
    again = world.lead.post(world.url("policies/1/merge/"), follow=True).content.decode()
    assert "is being merged already" in again
    assert "Merging Policy 1 into its base" in again
    refused = world.lead.post(world.url("policies/0/merge/"), follow=True).content.decode()
    assert "has no adapter to merge" in refused


@pytest.mark.parametrize("rest", ["evaluation/", "policies/", "policies/1/"])
def test_the_number_of_queries_does_not_grow_with_policies_and_verdicts(world: PageWorld, rest: str) -> None:
    first = judged_policy(world.study, pairs=10)
    page(world, rest)
    with CaptureQueriesContext(
        connection,
    ) as few:
        page(world, rest)
    second = judged_policy(world.study, number=2, parent=first, pairs=40, text="second {}".format)
    judged_policy(world.study, number=3, parent=second, pairs=40, text="third {}".format)
    page(world, rest)
    with CaptureQueriesContext(connection) as many:
        page(world, rest)
    assert len(many) == len(few)
