"""What is kept of changes and figures, and the orders and filters that come from it."""

import pytest

from annotate.models import Pair, Prompt, Verdict
from tests.training.comparison.worlds import answer_both, judge, text_of
from tests.training.factories import label, make_user
from tests.training.page_world import (
    PageWorld,
    add_heldout_response,
    add_job,
    add_policy,
    heldout_prompts,
)
from training.models import Job, Policy, PolicySummary, ResponseChange
from training.selectors.compare import study_policies
from training.selectors.compare_order import PromptList, prompt_list
from training.selectors.compare_query import CompareQuery, columns_of
from training.selectors.compare_verdicts import Votes
from training.selectors.policy_summaries import Summary, heldout_summaries, stored_summaries
from training.services.comparison import measure_changes, measure_columns, measure_policy, refresh_summaries

pytestmark = pytest.mark.django_db

TEXTS = [
    ("one two three", "one two three"),  # nothing changed
    ("one two three", "one two three four five"),  # 2 of 8 words differ; grown by 2
    ("one two three", "six"),  # all differ; shrunk by 2
    ("one two three", "one two three four five six seven"),  # 4 of 10 words differ; grown by 4
]


@pytest.fixture
def prompts(world: PageWorld, reference: Policy, trained: Policy) -> list[Prompt]:
    found = heldout_prompts(world.study)
    for prompt, (before, after) in zip(found, TEXTS, strict=True):
        answer_both(prompt, reference=reference, trained=trained, before=before, after=after)
    return found


def listed(world: PageWorld, **query: object) -> PromptList:
    asked = CompareQuery(**query)  # type: ignore[arg-type]
    columns = columns_of(study_policies(world.study), query=asked)
    assert measure_columns(columns, slot=asked.slot) == 0
    return prompt_list(world.study, columns=columns, query=asked)


def places(world: PageWorld, prompts: list[Prompt], **query: object) -> list[int]:
    return [[prompt.pk for prompt in prompts].index(pk) for pk in listed(world, **query).prompts]


def test_orders_follow_change_growth_and_import(world: PageWorld, prompts: list[Prompt]) -> None:
    assert places(world, prompts) == [2, 3, 1, 0]
    assert places(world, prompts, order="grown") == [3, 1, 0, 2]
    assert places(world, prompts, order="prompt") == [0, 1, 2, 3]


def test_diff_turned_round_turns_growth_round_and_leaves_change(
    world: PageWorld, prompts: list[Prompt]
) -> None:
    assert places(world, prompts, before=1, after=0) == [2, 3, 1, 0]
    assert places(world, prompts, before=1, after=0, order="grown") == [2, 0, 1, 3]
    assert listed(world, before=1, after=0).changes[prompts[3].pk].growth == -4


def test_length_bounds_the_second_compared_response(world: PageWorld, prompts: list[Prompt]) -> None:
    assert places(world, prompts, least=4, order="prompt") == [1, 3]
    assert places(world, prompts, least=3, most=5, order="prompt") == [0, 1]
    assert places(world, prompts, most=3, before=1, after=0, order="prompt") == [0, 1, 2, 3]


def test_verdicts_filter_and_order(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    for place, verdicts in ((0, ["before"]), (1, ["after", "after"]), (2, ["after", "before"])):
        before, after = (
            policy.sampled_responses.get(prompt=prompts[place]) for policy in (reference, trained)
        )
        for verdict in verdicts:
            judge(before, after, verdict)
    shown = listed(world).votes
    assert shown[prompts[1].pk] == Votes(before=0, after=2, level=0)
    assert places(world, prompts, verdict="after") == [1]
    assert places(world, prompts, verdict="before") == [0]
    assert places(world, prompts, verdict="even") == [2]
    assert places(world, prompts, verdict="none") == [3]
    assert places(world, prompts, order="worse") == [0, 2, 1, 3]
    assert places(world, prompts, order="better") == [1, 2, 0, 3]


def test_a_row_says_which_of_its_verdicts_a_rule_gave(
    world: PageWorld, prompts: list[Prompt], reference: Policy, trained: Policy
) -> None:
    before, after = (policy.sampled_responses.get(prompt=prompts[0]) for policy in (reference, trained))
    pair = judge(before, after, "after")
    assert text_of(world, "compare/").count("Verdicts of people on blind pairs") == 1
    Pair.objects.filter(pk=pair.pk).update(labels_wanted=2, state=Pair.State.OPEN)
    label(pair, annotator=make_user("rule", simulated_rule="longer"), verdict=Verdict.TIE)
    html = text_of(world, "compare/")
    assert "Verdicts of people (1 verdict) and simulated annotators (1 verdict, rule “longer”)" in html
    assert "1 of 2 simulated" in html


def test_votes_on_other_policies_and_withdrawn_pairs_do_not_count(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    third = add_policy(world.study, number=2)
    other = add_heldout_response(third, prompts[0], "something else")
    judge(reference.sampled_responses.get(prompt=prompts[0]), other, "after")
    withdrawn = judge(
        reference.sampled_responses.get(prompt=prompts[1]),
        trained.sampled_responses.get(prompt=prompts[1]),
        "after",
    )
    Pair.objects.filter(pk=withdrawn.pk).update(state=Pair.State.WITHDRAWN)
    assert listed(world, policies=(0, 1)).votes == {}


def test_search_knows_no_case_and_reads_prompts_and_responses(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    Prompt.objects.filter(pk=prompts[0].pk).update(messages=[{"role": "user", "content": "Größe?"}])
    assert places(world, prompts, text="GRÖSSE") == [0]
    assert places(world, prompts, text="SEVEN") == [3]


def test_neighbours_of_a_prompt_are_those_of_the_list(world: PageWorld, prompts: list[Prompt]) -> None:
    shown = listed(world)
    assert shown.around(prompts[3].pk) == (prompts[2].pk, prompts[1].pk)
    assert shown.around(prompts[2].pk) == (None, prompts[3].pk)
    assert shown.place(prompts[0].pk) == 4
    assert listed(world, least=4).around(prompts[0].pk) == (None, None)


def test_only_new_responses_are_measured(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    measure_changes(reference, trained, slot=0, seconds=None)
    first = set(ResponseChange.objects.values_list("pk", flat=True))
    assert len(first) == 4
    for policy in (reference, trained):
        add_heldout_response(policy, prompts[0], "another sample", slot=1)
    assert measure_changes(trained, reference, slot=1, seconds=None) == 0
    measure_changes(reference, trained, slot=0, seconds=None)
    assert set(ResponseChange.objects.filter(slot=0).values_list("pk", flat=True)) == first
    assert ResponseChange.objects.filter(slot=1).count() == 1


def test_page_measures_one_batch_stops_when_its_time_is_up_and_says_how_much_is_left(
    reference: Policy, trained: Policy, prompts: list[Prompt], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.services.comparison.BATCH", 1)
    assert measure_changes(reference, trained, slot=0, seconds=-1.0) == 3
    assert ResponseChange.objects.count() == 1


def test_finished_policy_is_measured_against_its_parent_and_the_reference(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    second = Policy.objects.create(study=world.study, number=2, parent=trained, served_name="second")
    third = Policy.objects.create(study=world.study, number=3, parent=second, served_name="third")
    for policy in (second, third):
        add_heldout_response(policy, prompts[0], "one")
    measure_policy(third)
    pairs = set(ResponseChange.objects.values_list("earlier__number", "later__number"))
    assert pairs == {(0, 3), (2, 3)}
    assert PolicySummary.objects.get(policy=third).responses == 1


def test_figures_are_made_anew_when_responses_or_scores_have_come(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    def figures() -> tuple[int, int]:
        assert refresh_summaries([trained], tag="") == 0
        summary = stored_summaries([trained], tag="")[trained.pk]
        return summary.responses, summary.scored

    assert figures() == (4, 0)
    made = PolicySummary.objects.get(policy=trained).made_at
    assert figures() == (4, 0)
    assert PolicySummary.objects.get(policy=trained).made_at == made
    sampled = add_heldout_response(trained, prompts[0], "more", slot=1, log_ratio=1.0)
    assert figures() == (5, 1)
    sampled.scores.all().delete()
    assert figures() == (5, 0)


def test_figures_that_another_version_kept_are_made_anew(trained: Policy, prompts: list[Prompt]) -> None:
    refresh_summaries([trained], tag="")
    row = PolicySummary.objects.get(policy=trained)
    whole = dict(row.values)
    row.values = {name: value for name, value in whole.items() if name != "length"} | {"tokens": 4.0}
    row.save()
    assert stored_summaries([trained], tag="")[trained.pk].responses == 0
    assert heldout_summaries([trained])[trained.pk] == Summary.from_json(whole)
    refresh_summaries([trained], tag="")
    assert PolicySummary.objects.get(policy=trained).values == whole


def test_figures_of_a_policy_at_work_may_be_some_seconds_old(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    refresh_summaries([trained], tag="")
    add_job(world.study, kind=Job.Kind.HELDOUT, state=Job.State.RUNNING, policy=trained)
    add_heldout_response(trained, prompts[0], "more", slot=1)
    refresh_summaries([trained], tag="")
    assert PolicySummary.objects.get(policy=trained).responses == 4


def test_figures_of_a_tag_are_those_of_its_prompts(
    world: PageWorld, trained: Policy, prompts: list[Prompt]
) -> None:
    """Words of the tagged responses: 3 and 7, mean 5."""
    Prompt.objects.filter(pk__in=[prompts[0].pk, prompts[3].pk]).update(tags=["code"])
    refresh_summaries([trained], tag="code")
    summary = stored_summaries([trained], tag="code")[trained.pk]
    assert summary.words is not None
    assert (summary.responses, summary.words.value, summary.words.prompts) == (2, 5.0, 2)


def test_orders_by_verdict_are_offered_only_where_there_are_verdicts(
    world: PageWorld, reference: Policy, trained: Policy, prompts: list[Prompt]
) -> None:
    assert "judged worse first" not in text_of(world, "compare/")
    before, after = (policy.sampled_responses.get(prompt=prompts[0]) for policy in (reference, trained))
    judge(before, after, "after")
    html = text_of(world, "compare/")
    assert "judged worse first" in html
    assert "Policy 1 preferred · 1–0–0" in html
