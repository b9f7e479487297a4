"""New labels test the policy that was trained without them."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from annotate.models import Pair, Study
from annotate.services.pairs import add_pair, add_response
from tests.training.evaluation.world import trained_policy
from tests.training.factories import make_round, make_study, train_prompts
from tests.training.page_world import add_run
from training.core.run.directory import RunDirectory
from training.core.run.records import MarginRecord
from training.models import PrequentialTest, Run
from training.services.prequential import NewLabels, judge_by_new_labels, record_prequential_test
from training.services.run_directories import absolute

pytestmark = pytest.mark.django_db


def add_training_pair(study: Study, *, batch: int) -> Pair:
    prompt = train_prompts(study)[0]
    first, second = (add_response(prompt=prompt, text=f"{side}", was_cut=False) for side in ("one", "two"))
    return add_pair(prompt=prompt, response_a=first, response_b=second, batch=batch)


def continuing_run() -> Run:
    """A run of round 2 that continues policy 1, on labels of both rounds."""
    study = make_study()
    policy = trained_policy(study, number=1)
    run = add_run(make_round(study, number=2))
    Run.objects.filter(pk=run.pk).update(config={**run.config, "parent_adapter": "policies/one"})
    return Run.objects.select_related("round__sampled_policy", "round__study").get(
        pk=run.pk, round__sampled_policy=policy
    )


def write_directory(
    run: Run, *, margins: list[tuple[str, int, float]], ties: tuple[str, ...] = ()
) -> RunDirectory:
    directory = RunDirectory(absolute(run.directory))
    directory.path.mkdir(parents=True)
    examples = [{"id": name, "tie": name in ties} for name, epoch, _ in margins if epoch == 0]
    records = [
        asdict(MarginRecord(name, epoch, epoch, margin, None, (), ())) for name, epoch, margin in margins
    ]
    directory.examples.write_text("".join(json.dumps(line) + "\n" for line in examples))
    directory.margins.write_text("".join(json.dumps(line) + "\n" for line in records))
    return directory


def test_only_the_rounds_own_preferences_count_and_only_before_the_first_step() -> None:
    run = continuing_run()
    study = run.round.study
    old = add_training_pair(study, batch=1)
    new = [add_training_pair(study, batch=2) for _ in range(4)]
    names = [f"pair-{pair.pk}" for pair in new]
    margins = [(f"pair-{old.pk}", 0, 9.0), (names[0], 0, 0.4), (names[1], 0, -0.1), (names[2], 0, 0.0)]
    margins += [(names[3], 0, 5.0), (f"{names[0]}-edit", 0, 5.0), (names[1], 1, 7.0)]
    directory = write_directory(run, margins=margins, ties=(names[3],))
    labels = judge_by_new_labels(run, directory=directory)
    assert labels == NewLabels(preferences=3, agreed=1, equal=1)
    for _ in range(2):
        record_prequential_test(run, labels=labels)
    test = PrequentialTest.objects.get()
    assert (test.policy.number, test.preferences, test.agreed) == (1, 3, 1)


def test_the_reference_and_runs_from_a_fresh_adapter_have_no_such_test() -> None:
    run = continuing_run()
    pair = add_training_pair(run.round.study, batch=2)
    directory = write_directory(run, margins=[(f"pair-{pair.pk}", 0, 1.0)])
    fresh = Run(round=run.round, config={**run.config, "parent_adapter": None})
    assert judge_by_new_labels(fresh, directory=directory) is None
    run.round.sampled_policy = run.round.study.policies.get(number=0)
    assert judge_by_new_labels(run, directory=directory) is None
    record_prequential_test(run, labels=None)
    assert not PrequentialTest.objects.exists()


def test_a_run_without_margins_has_no_such_test() -> None:
    run = continuing_run()
    directory = write_directory(run, margins=[])
    assert judge_by_new_labels(run, directory=directory) is None
