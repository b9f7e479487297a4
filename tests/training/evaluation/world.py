"""Studies with policies, held-out responses and verdicts on blind pairs, for tests of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from annotate.models import Study, User, Verdict
from tests.training.factories import label, make_job, make_round, make_user
from tests.training.page_world import add_heldout_response, add_policy, add_run, heldout_prompts
from training.models import EvaluationPair, Job, Policy, Round, Run
from training.services.evaluation_pairs import ask_for_more
from training.services.jobs import Claim, claim_attempt

Texts = Callable[[int], str]


def reference_of(study: Study) -> Policy:
    return study.policies.get(number=0)


def answer_all(policy: Policy, *, text: Texts, slots: int = 1, log_ratio: float | None = None) -> None:
    """Give every held-out prompt of the study a response; `text` gets the prompt's number."""
    for number, prompt in enumerate(heldout_prompts(policy.study)):
        for slot in range(slots):
            add_heldout_response(
                policy,
                prompt,
                f"{text(number)} {slot}" if slots > 1 else text(number),
                slot=slot,
                log_ratio=log_ratio,
            )


def trained_policy(study: Study, *, number: int, parent: Policy | None = None, **result: Any) -> Policy:
    """A policy with its round and its finished run."""
    opened = make_round(study, number=number, state=Round.State.CLOSED)
    policy = add_policy(study, number=number, run=add_run(opened))
    Policy.objects.filter(pk=policy.pk).update(parent=parent or reference_of(study))
    if result:
        run = Run.objects.get(policy=policy)
        Run.objects.filter(pk=run.pk).update(result={**(run.result or {}), **result})
    return Policy.objects.select_related("study", "parent", "run__round").get(pk=policy.pk)


def heldout_claim(study: Study) -> Claim:
    """The right to write that the held-out sampling job of a policy has."""
    job = make_job(study, kind=Job.Kind.HELDOUT)
    return claim_attempt(job.attempts.get().pk)


def judge_all(
    policy: Policy, *, won: Callable[[EvaluationPair], bool | None], annotator: User | None = None
) -> int:
    """Judge the policy's blind pairs: `won` says whether the policy's response is better, None for a tie."""
    annotator = annotator or make_user("judge")
    rows = EvaluationPair.objects.filter(policy=policy, pair__isnull=False).select_related("pair")
    for row in rows:
        assert row.pair is not None
        label(row.pair, annotator=annotator, verdict=verdict_of(won(row), policy_is_a=row.policy_is_a))
    return len(rows)


def verdict_of(won: bool | None, *, policy_is_a: bool) -> Verdict:
    if won is None:
        return Verdict.TIE
    return Verdict.A if won == policy_is_a else Verdict.B


def judged_policy(
    study: Study,
    *,
    number: int = 1,
    parent: Policy | None = None,
    text: Texts = "the policy says {}".format,
    won: Callable[[EvaluationPair], bool | None] = lambda row: True,
    pairs: int = 200,
    **result: Any,
) -> Policy:
    """A trained policy whose blind pairs, up to `pairs`, have been judged by one person."""
    policy = trained_policy(study, number=number, parent=parent, **result)
    answer_all(policy, text=text)
    ask_for_more(policy=policy, pairs=pairs, actor=None)
    judge_all(policy, won=won)
    return policy
