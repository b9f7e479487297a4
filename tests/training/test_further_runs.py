"""Several runs on the labels of one round, the choice among their policies, and going back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from annotate.models import AuditEntry, Pair, Study, Verdict
from tests.training.factories import attempt_of, make_study
from tests.training.loop import fill_round, label_round
from training.core.run.config import LossSettings
from training.models import Job, Policy, Round, Run
from training.services.evaluation_pairs import opponents_of, pairs_to_ask
from training.services.further_runs import RunPlan, plan_of_run, start_further_runs
from training.services.jobs import claim_attempt, fail_attempt, request_cancel, retry_job
from training.services.publishing import run_and_publish
from training.services.round_endings import choose_policy, close_round
from training.services.rounds import (
    ChoiceNeeded,
    RoundRefused,
    open_round,
    policy_for_next_round,
    start_training,
)
from training.services.run_directories import absolute

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def labelled_round(study: Study) -> Round:
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A, Verdict.B, Verdict.A])
    return opened


@pytest.fixture
def run() -> Run:
    return start_training(round=labelled_round(make_study(train=4, heldout=2, minimum_labels=2)))


@pytest.fixture
def plan(run: Run) -> RunPlan:
    return plan_of_run(run)


def trained(run: Run) -> Policy:
    """End the run as if it had given a policy."""
    study = run.round.study
    policy = Policy.objects.create(
        study=study,
        number=study.policies.count(),
        served_name=f"{study.slug}-{run.number}-{run.round.number}",
        adapter_path="policies/none",
        parent=run.round.sampled_policy,
    )
    Run.objects.filter(pk=run.pk).update(policy=policy)
    Job.objects.filter(run=run).update(state=Job.State.DONE)
    Round.objects.filter(pk=run.round_id).update(state=Round.State.TRAINED)
    return policy


def test_further_runs_train_on_exactly_the_same_examples_with_other_settings(run: Run, plan: RunPlan) -> None:
    plans = [
        replace(plan, loss=LossSettings(name="dpo", beta=0.3)),
        replace(plan, loss=LossSettings(name="ipo", beta=0.1), learning_rate=1e-4, epochs=1, seed=7),
    ]
    second, third = start_further_runs(source=run, plans=plans)
    assert [second.number, third.number] == [2, 3]
    for further in (second, third):
        examples = absolute(further.directory) / "examples.jsonl"
        assert examples.read_bytes() == (absolute(run.directory) / "examples.jsonl").read_bytes()
        assert (further.dataset_sha256, further.receipt) == (run.dataset_sha256, run.receipt)
        assert json.loads((absolute(further.directory) / "config.json").read_text()) == further.config
    assert second.config["loss"] == {"name": "dpo", "beta": 0.3}
    assert {**second.config, "loss": run.config["loss"]} == run.config
    assert third.config["optimizer"]["learning_rate"] == 1e-4
    assert (third.job.state, third.job.total) == (Job.State.QUEUED, 1)  # 3 examples, 8 pairs a step, 1 epoch


def test_run_that_repeats_another_one_is_refused_and_leaves_nothing_behind(run: Run, plan: RunPlan) -> None:
    before = set(absolute(run.directory).parent.iterdir())
    other = replace(plan, seed=1)
    with pytest.raises(RoundRefused, match="This would be run 1 once more, with the same result; change"):
        start_further_runs(source=run, plans=[other, plan])
    assert Run.objects.count() == 1
    assert set(absolute(run.directory).parent.iterdir()) == before


def test_more_runs_than_the_limit_are_refused(run: Run, plan: RunPlan) -> None:
    with pytest.raises(RoundRefused, match="9 runs at once must lie between 1 and 8"):
        start_further_runs(source=run, plans=[replace(plan, seed=seed) for seed in range(1, 10)])


def test_examples_that_changed_on_the_disk_are_refused(run: Run, plan: RunPlan) -> None:
    with (absolute(run.directory) / "examples.jsonl").open("a") as file:
        file.write('{"id": "x"}\n')
    with pytest.raises(RoundRefused, match="they have changed on the disk"):
        start_further_runs(source=run, plans=[replace(plan, seed=1)])
    assert Run.objects.count() == 1


def test_loss_that_cannot_learn_from_the_examples_is_refused(run: Run, plan: RunPlan) -> None:
    path = absolute(run.directory) / "examples.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**line, "tie": True}) + "\n" for line in lines))
    with pytest.raises(
        RoundRefused, match="3 ties, which the loss dpo cannot; choose rao_kupper or davidson"
    ):
        start_further_runs(source=run, plans=[replace(plan, seed=1)])
    path.write_text("".join(json.dumps({**line, "p": 0.7}) + "\n" for line in lines))
    with pytest.raises(RoundRefused, match="soft labels, which the loss ipo does not take"):
        start_further_runs(source=run, plans=[replace(plan, loss=LossSettings(name="ipo"))])


def test_closed_round_takes_no_further_runs(run: Run, plan: RunPlan) -> None:
    Round.objects.filter(pk=run.round_id).update(state=Round.State.CLOSED)
    with pytest.raises(RoundRefused, match="Round 1 is closed; its labels are part of the next round's"):
        start_further_runs(source=run, plans=[replace(plan, seed=1)])


def test_next_round_waits_for_runs_under_way_and_for_a_choice_among_several(run: Run, plan: RunPlan) -> None:
    study = run.round.study
    first = trained(run)
    (second,) = start_further_runs(source=run, plans=[replace(plan, seed=1)])
    with pytest.raises(RoundRefused, match="Run 2 of round 1 is under way; wait for it or cancel it"):
        open_round(study=study)
    trained(second)
    with pytest.raises(
        ChoiceNeeded, match="Round 1 gave several policies; choose on its page which one round 2"
    ):
        open_round(study=study)
    choose_policy(round=run.round, policy=first)
    assert policy_for_next_round(study) == first
    opened = open_round(study=study)
    assert opened.sampled_policy == first
    assert Round.objects.get(pk=run.round_id).chosen_policy == first
    with pytest.raises(RoundRefused, match="Round 2 is there already"):
        choose_policy(round=run.round, policy=first)


def test_going_back_is_choosing_an_earlier_policy(run: Run) -> None:
    trained(run)
    reference = run.round.study.policies.get(number=0)
    choose_policy(round=run.round, policy=reference)
    assert open_round(study=run.round.study).sampled_policy == reference
    assert AuditEntry.objects.filter(action="policy.chosen").count() == 1


def test_policy_of_another_study_and_a_round_without_policy_are_refused(run: Run) -> None:
    with pytest.raises(RoundRefused, match="is a policy of another study"):
        choose_policy(round=run.round, policy=make_study().policies.get())
    with pytest.raises(RoundRefused, match="Round 1 has no policy yet"):
        choose_policy(round=run.round, policy=run.round.sampled_policy)


def test_failed_further_run_can_be_retried_beside_a_finished_one(run: Run, plan: RunPlan) -> None:
    trained(run)
    (second,) = start_further_runs(source=run, plans=[replace(plan, seed=1)])
    fail_attempt(claim_attempt(attempt_of(second.job).pk), cause="Out of memory.")
    retry_job(job=Job.objects.get(run=second))
    assert Job.objects.get(run=second).state == Job.State.QUEUED


def test_policies_of_one_round_share_its_evaluation_pairs(run: Run, plan: RunPlan) -> None:
    first = trained(run)
    study = run.round.study
    Pair.objects.filter(study=study).update(state=Pair.State.FROZEN)
    alone = pairs_to_ask(first)
    for second in start_further_runs(source=run, plans=[replace(plan, seed=1)]):
        trained(second)
    assert (alone, pairs_to_ask(first)) == (1, 0)  # a fifth of 5 pairs; half of that rounds to 0


def test_round_without_usable_labels_is_closed_and_the_next_samples_the_same_policy() -> None:
    study = make_study(train=4, heldout=2, minimum_labels=2)
    opened = open_round(study=study)
    close_round(round=opened)
    opened.refresh_from_db()
    assert (opened.state, opened.chosen_policy) == (Round.State.CLOSED, opened.sampled_policy)
    assert Job.objects.get(kind=Job.Kind.SAMPLING).state == Job.State.CANCELLED
    second = open_round(study=study)
    assert (second.number, second.sampled_policy) == (2, opened.sampled_policy)


def test_labels_of_a_closed_round_are_trained_on_later_and_its_open_pairs_leave_the_queue() -> None:
    study = make_study(train=4, heldout=2, minimum_labels=2)
    opened = open_round(study=study)
    fill_round(opened)
    label_round(opened, verdicts=[Verdict.A])
    close_round(round=opened)
    assert set(Pair.objects.filter(batch=1).values_list("state", flat=True)) == {Pair.State.FROZEN}
    second = open_round(study=study)
    fill_round(second)
    label_round(second, verdicts=[Verdict.A, Verdict.B])
    assert start_training(round=second).receipt["usable"] == 3


def test_round_is_not_closed_while_it_trains_or_after(run: Run) -> None:
    with pytest.raises(RoundRefused, match="A run of round 1 is under way; wait for it or cancel it first"):
        close_round(round=run.round)
    request_cancel(job=run.job)
    close_round(round=run.round)
    with pytest.raises(RoundRefused, match="Round 1 is closed already"):
        close_round(round=run.round)
    Round.objects.filter(pk=run.round_id).update(state=Round.State.TRAINED)
    with pytest.raises(RoundRefused, match="Round 1 has been trained; it closes by itself"):
        close_round(round=run.round)


@pytest.mark.slow
def test_sweep_gives_a_policy_each_and_a_run_from_the_reference_has_it_as_parent(tiny_model: Path) -> None:
    study = make_study(
        train=4, heldout=1, base_model=str(tiny_model), dtype="float32", minimum_labels=2, epochs=1
    )
    first = start_training(round=labelled_round(study))
    run_and_publish(claim_attempt(attempt_of(first.job).pk))
    second = open_round(study=study)
    fill_round(second)
    label_round(second, verdicts=[Verdict.A, Verdict.B, Verdict.A])
    going_on = start_training(round=second)
    run_and_publish(claim_attempt(attempt_of(going_on.job).pk))
    plan = plan_of_run(going_on)
    afresh, stronger = start_further_runs(
        source=going_on,
        plans=[
            replace(plan, from_reference=True),
            replace(plan, loss=LossSettings(name="dpo", beta=0.5)),
        ],
    )
    for run in (afresh, stronger):
        run_and_publish(claim_attempt(attempt_of(run.job).pk))
    policies = {run.number: run.policy for run in second.runs.select_related("policy__parent")}
    assert [policies[number].number for number in (1, 2, 3)] == [2, 3, 4]  # type: ignore[union-attr]
    assert [policies[number].parent.number for number in (1, 2, 3)] == [1, 0, 1]  # type: ignore[union-attr]
    assert afresh.config["parent_adapter"] is None
    assert len({policy.adapter_sha256 for policy in policies.values() if policy}) == 3
    assert [one.number for one in opponents_of(Policy.objects.get(number=3))] == [0, 1]
    with pytest.raises(ChoiceNeeded):
        open_round(study=study)
    choose_policy(round=second, policy=Policy.objects.get(number=3))
    assert open_round(study=study).sampled_policy.number == 3
