"""Opening a round on a policy: the gate, overrides that stay visible, and going back to an earlier policy."""

from __future__ import annotations

from io import StringIO

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.training.evaluation.world import answer_all, judged_policy, reference_of, trained_policy
from tests.training.factories import make_study, make_user
from training.models import GateOverride, Round
from training.services.rounds import GateFailed, RoundRefused, open_round

pytestmark = pytest.mark.django_db
WHY = "We study what over-optimisation looks like."


def test_a_policy_that_fails_its_gate_needs_a_written_reason() -> None:
    study = make_study()
    policy = trained_policy(study, number=1, loss_last=float(40), steps=2)
    with pytest.raises(GateFailed, match="diverged") as refused:
        open_round(study=study)
    assert refused.value.policy == policy
    with pytest.raises(GateFailed):
        open_round(study=study, override="   ")
    assert study.rounds.count() == 1


def test_an_override_is_recorded_with_its_reason_and_what_failed() -> None:
    study, lead = make_study(), make_user("lead")
    trained_policy(study, number=1, loss_last=float(40), steps=2)
    opened = open_round(study=study, actor=lead, override=WHY)
    kept = GateOverride.objects.get()
    assert (kept.policy.number, kept.round_number, kept.reason, kept.actor) == (1, opened.number, WHY, lead)
    assert "diverged" in kept.failures[0]
    entry = study.audit_entries.get(action="gate.overridden")
    assert entry.actor == lead
    assert entry.details["reason"] == WHY


def test_a_policy_that_people_judge_worse_is_held_back() -> None:
    study = make_study(heldout=30)
    answer_all(reference_of(study), text="reference {}".format)
    judged_policy(study, won=lambda row: False)
    with pytest.raises(GateFailed, match="wins only"):
        open_round(study=study)


def test_what_is_not_known_yet_holds_nobody_back_and_needs_no_reason() -> None:
    study = make_study()
    trained_policy(study, number=1)
    opened = open_round(study=study, override="not needed")
    assert opened.sampled_policy.number == 1
    assert not GateOverride.objects.exists()


def test_the_next_round_can_go_back_to_an_earlier_policy() -> None:
    study = make_study()
    first = trained_policy(study, number=1)
    trained_policy(study, number=2, parent=first)
    Round.objects.filter(study=study, number=2).update(state=Round.State.TRAINED)
    opened = open_round(study=study, policy=first)
    assert opened.sampled_policy == first
    closed = study.rounds.get(number=2)
    assert (closed.state, closed.chosen_policy) == (Round.State.CLOSED, first)
    assert study.audit_entries.get(action="round.opened").details["policy"] == 1


def test_a_policy_of_another_study_is_refused() -> None:
    study = make_study()
    with pytest.raises(RoundRefused, match="another study"):
        open_round(study=study, policy=reference_of(make_study()))


def test_the_command_names_a_policy_and_a_reason() -> None:
    study = make_study()
    trained_policy(study, number=1, loss_last=float(40), steps=2)
    with pytest.raises(CommandError, match="fails its gate"):
        call_command("open_round", study.slug)
    with pytest.raises(CommandError, match="no policy 7; it has 0, 1"):
        call_command("open_round", study.slug, "--policy", "7")
    out = StringIO()
    call_command("open_round", study.slug, "--override", WHY, stdout=out)
    assert "samples from Policy 1" in out.getvalue()
