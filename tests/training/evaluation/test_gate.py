"""The gate: thresholds against figures, and the alarms of policies that went wrong."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan

import numpy as np
import pytest

from training.evaluation.gate import Check, Evidence, Thresholds, Verdict, gate_of
from training.evaluation.length_control import length_controlled
from training.evaluation.outcomes import Outcome
from training.evaluation.win_rate import WinRate, win_rate


def rate(*, wins: int, losses: int) -> WinRate:
    outcomes = [Outcome(1, 0, n, wins=int(n < wins), losses=int(n >= wins)) for n in range(wins + losses)]
    return win_rate(outcomes, half_width=0.1)


GOOD = Evidence(
    over_reference=rate(wins=70, losses=30),
    over_parent=rate(wins=65, losses=35),
    parent="Policy 1",
    tokens=60.0,
    reference_tokens=55.0,
    cut=0.1,
    reference_cut=0.2,
    kl=4.0,
    kl_per_token=0.07,
    chosen_log_ratio=0.02,
    loss_first=0.6931,
    loss_last=0.41,
    loss_steps=10,
    steps=40,
)


def check(evidence: Evidence, name: str, thresholds: Thresholds | None = None) -> Check:
    gate = gate_of(evidence, thresholds=thresholds or Thresholds())
    return next(check for check in gate.checks if check.name.startswith(name))


def test_a_good_policy_passes_with_a_figure_for_every_check() -> None:
    gate = gate_of(GOOD, thresholds=Thresholds())
    assert gate.verdict == Verdict.PASS
    assert gate.sentence == "All 8 checks pass."
    assert all(any(sign.isdigit() for sign in check.sentence) for check in gate.checks)
    assert gate.alarms == ()


@pytest.mark.parametrize(("last", "steps"), [(nan, 40), (inf, 40), (nan, 1), (9.5, 2)])
def test_a_run_that_diverged_fails(last: float, steps: int) -> None:
    failed = check(replace(GOOD, loss_last=last, loss_steps=None, steps=steps), "Training")
    assert failed.verdict == Verdict.FAIL
    assert "diverged" in failed.sentence


def test_one_hard_last_batch_is_no_divergence_where_the_trainer_saw_none() -> None:
    passed = check(replace(GOOD, loss_last=1.9, loss_steps=None), "Training")
    assert passed.verdict == Verdict.PASS
    assert "The trainer warned of no divergence" in passed.sentence
    assert "from 0.693 (first step) to 1.9 (last step)" in passed.sentence


def test_the_loss_of_a_run_is_a_mean_over_steps() -> None:
    assert "from 0.693 (first 10 steps) to 0.41 (last 10 steps)" in check(GOOD, "Training").sentence


def test_a_loss_that_rose_and_came_back_is_an_alarm_and_fails_nothing() -> None:
    warning = "The trainer warns of unsteady loss: it rose from 0.028 to 3.84 and came back down to 0.214."
    gate = gate_of(replace(GOOD, warnings=(warning,)), thresholds=Thresholds())
    assert (gate.verdict, gate.alarms) == (Verdict.PASS, (warning,))


def test_a_run_of_two_steps_claims_no_more_than_it_knows() -> None:
    passed = check(replace(GOOD, steps=2), "Training")
    assert passed.verdict == Verdict.PASS
    assert "Its steps (2) are too few to tell more" in passed.sentence


def test_a_warning_of_divergence_fails_where_no_loss_is_known() -> None:
    warned = replace(GOOD, loss_first=None, loss_last=None, warnings=("The trainer warns of divergence.",))
    assert check(warned, "Training").verdict == Verdict.FAIL


def test_a_loss_that_came_apart_on_the_way_fails_though_the_last_batch_was_easy() -> None:
    warning = "The trainer warns of divergence: the loss rose from 0.693 to 3.84."
    gate = gate_of(replace(GOOD, warnings=(warning, "The trainer warns of length.")), thresholds=Thresholds())
    failed = next(check for check in gate.checks if check.name == "Training")
    assert (failed.verdict, failed.sentence) == (Verdict.FAIL, warning)
    assert gate.alarms == ("The trainer warns of length.",)


def test_an_adapter_that_changes_nothing_fails() -> None:
    failed = check(replace(GOOD, kl=0.0, kl_per_token=0.0), "Adapter")
    assert failed.verdict == Verdict.FAIL
    assert "changes nothing" in failed.sentence


def test_a_judge_that_prefers_longer_raises_the_alarm_and_growth_fails() -> None:
    rng = np.random.default_rng(2)
    differences = np.rint(rng.normal(30.0, 30.0, size=300)).astype(int)
    outcomes = [
        Outcome(1, 0, n, wins=int(d > 0), losses=int(d <= 0), length_difference=int(d))
        for n, d in enumerate(differences)
    ]
    gate = gate_of(
        replace(
            GOOD,
            over_reference=win_rate(outcomes, half_width=0.1),
            length_controlled=length_controlled(outcomes),
            tokens=100.0,
        ),
        thresholds=Thresholds(),
    )
    assert any("prefer longer responses" in alarm for alarm in gate.alarms)
    assert [failure for failure in gate.failures if "1.8 times" in failure]


def test_always_longer_responses_are_an_alarm_too() -> None:
    outcomes = [Outcome(1, 0, n, wins=1, length_difference=10 + n) for n in range(40)]
    evidence = replace(
        GOOD,
        over_reference=win_rate(outcomes, half_width=0.1),
        length_controlled=length_controlled(outcomes),
    )
    assert "longer than its opponent's" in gate_of(evidence, thresholds=Thresholds()).alarms[0]


def test_no_verdicts_leave_it_open_and_do_not_fail() -> None:
    gate = gate_of(replace(GOOD, over_reference=rate(wins=0, losses=0)), thresholds=Thresholds())
    assert gate.verdict == Verdict.UNKNOWN
    assert gate.failures == ()
    assert "cannot be decided yet" in gate.sentence


@pytest.mark.parametrize(
    ("wins", "losses", "verdict"),
    [(70, 30, Verdict.PASS), (52, 48, Verdict.UNKNOWN), (30, 70, Verdict.FAIL), (1, 0, Verdict.UNKNOWN)],
)
def test_a_win_rate_is_decided_by_its_interval(wins: int, losses: int, verdict: Verdict) -> None:
    assert check(replace(GOOD, over_reference=rate(wins=wins, losses=losses)), "Win rate").verdict == verdict


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"kl": 80.0}, "Distance"),
        ({"kl": nan}, "Distance"),
        ({"chosen_log_ratio": -0.9}, "Displacement"),
        ({"tokens": 120.0}, "Length"),
        ({"cut": 0.94, "reference_cut": 0.22}, "Cut off"),
        ({"over_parent": rate(wins=10, losses=40)}, "Win rate over Policy 1"),
    ],
)
def test_each_threshold_fails_on_its_own(changes: dict[str, float], name: str) -> None:
    gate = gate_of(replace(GOOD, **changes), thresholds=Thresholds())  # type: ignore[arg-type]
    failing = [check for check in gate.checks if check.verdict == Verdict.FAIL]
    assert [check.name for check in failing] == [name]


@pytest.mark.parametrize(
    "missing", ["tokens", "cut", "reference_cut", "kl", "kl_per_token", "chosen_log_ratio", "loss_last"]
)
def test_a_missing_figure_is_unknown(missing: str) -> None:
    gate = gate_of(replace(GOOD, **{missing: None}), thresholds=Thresholds())  # type: ignore[arg-type]
    assert gate.verdict == Verdict.UNKNOWN


@pytest.mark.parametrize(("cut", "reference"), [(0.94, 0.8), (0.5, 0.0), (0.0, 0.9)])
def test_responses_are_cut_too_often_only_where_the_references_are_not(cut: float, reference: float) -> None:
    passed = check(replace(GOOD, cut=cut, reference_cut=reference), "Cut off")
    assert passed.verdict == Verdict.PASS
    assert ("less than 25" in passed.sentence) == (cut > 0.5)


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("Adapter", "its own responses"),
        ("Distance", "its own responses"),
        ("Displacement", "its training pairs"),
    ],
)
def test_every_figure_in_nats_says_on_which_texts(name: str, on: str) -> None:
    assert f"on {on}" in check(GOOD, name).sentence


def test_negative_figures_have_a_sign_of_minus_everywhere() -> None:
    evidence = replace(GOOD, chosen_log_ratio=-0.475, kl=-0.2, kl_per_token=-0.01)
    sentences = " ".join(check.sentence for check in gate_of(evidence, thresholds=Thresholds()).checks)
    assert [f"−{figure}" in sentences for figure in ("0.475", "0.2", "0.01")] == [True] * 3
    assert " -" not in sentences
    assert "Within the limit: on its training pairs" in sentences


def test_an_empty_threshold_is_not_checked() -> None:
    names = [check.name for check in gate_of(GOOD, thresholds=Thresholds(*[None] * 6)).checks]
    assert names == ["Training", "Adapter"]


def test_the_trainers_warnings_are_alarms() -> None:
    gate = gate_of(replace(GOOD, warnings=("The trainer warns of displacement.",)), thresholds=Thresholds())
    assert gate.alarms == ("The trainer warns of displacement.",)
    assert gate.verdict == Verdict.PASS
