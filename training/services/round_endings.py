"""How a round ends beside training: a policy is chosen for the next one, or it closes without one."""

from __future__ import annotations

from django.db import transaction

from annotate.models import User
from annotate.services.audit import record_audit
from annotate.services.pairs import freeze_batch
from training.models import Job, Policy, Round
from training.services.jobs import hold_round, request_cancel
from training.services.notices import refresh_queue_notice
from training.services.rounds import RoundRefused, active_runs

ENDED = (Round.State.TRAINED, Round.State.CLOSED)


def choose_policy(*, round: Round, policy: Policy, actor: User | None = None) -> None:
    """Choose the policy that the next round samples: of this round or any earlier one, which goes back.

    May be changed until the next round opens; its gate is asked then. Raises RoundRefused.
    """
    if policy.study_id != round.study_id:
        raise RoundRefused(
            f"{policy.served_name} is a policy of another study; choose one of {round.study.name}."
        )
    with transaction.atomic():
        if _is_followed(round):
            raise RoundRefused(
                f"Round {round.number + 1} is there already and samples what was chosen then; choose on the "
                "newest round."
            )
        if not Round.objects.filter(pk=round.pk, state__in=ENDED).update(chosen_policy=policy):
            raise RoundRefused(f"Round {round.number} has no policy yet; choose when it has been trained.")
        details = {"round": round.number, "policy": policy.number}
        record_audit(study=round.study, actor=actor, action="policy.chosen", details=details)


def close_round(*, round: Round, actor: User | None = None) -> None:
    """Close a round that gives no policy, for want of usable labels or of a run that succeeds.

    Sampling stops, open pairs leave the queue for good; labels stay and are trained on by later rounds. The
    next round samples the same policy again unless another one is chosen. Raises RoundRefused.
    """
    with transaction.atomic():
        hold_round(round.pk)
        _check_can_close(round)
        moved = Round.objects.filter(
            pk=round.pk, state__in=[Round.State.COLLECTING, Round.State.TRAINING]
        ).update(state=Round.State.CLOSED, chosen_policy=round.sampled_policy_id)
        if not moved:
            raise RoundRefused(f"Round {round.number} has just moved on; reload the page.")
        for job in Job.objects.filter(round=round, kind=Job.Kind.SAMPLING):
            if job.is_active:
                request_cancel(job=job, actor=actor)
        frozen = freeze_batch(study=round.study, batch=round.number)
        details = {"round": round.number, "open_pairs": frozen}
        record_audit(study=round.study, actor=actor, action="round.closed", details=details)
        refresh_queue_notice(round.study)


def _check_can_close(round: Round) -> None:
    fresh = Round.objects.get(pk=round.pk)
    if fresh.state == Round.State.TRAINED:
        raise RoundRefused(
            f"Round {fresh.number} has been trained; it closes by itself when the next round opens."
        )
    if fresh.state == Round.State.CLOSED:
        raise RoundRefused(f"Round {fresh.number} is closed already.")
    if active_runs(fresh.study).exists():
        raise RoundRefused(f"A run of round {fresh.number} is under way; wait for it or cancel it first.")


def _is_followed(round: Round) -> bool:
    return Round.objects.filter(study=round.study_id, number__gt=round.number).exists()
