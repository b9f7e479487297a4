"""Annotators that label by a stated rule, through the services that people use; labels name the rule."""

import uuid
from dataclasses import dataclass

from django.db import transaction

from annotate.errors import LabelRefused, MemberRefused
from annotate.models import Membership, Role, Study, User, Verdict
from annotate.rules import rule_named
from annotate.services.accounts import create_user
from annotate.services.preferences import record_preference, skip_pair
from annotate.services.queue import LeasedPair, lease_next_pair
from annotate.services.studies import add_member


@dataclass(frozen=True)
class SimulationReport:
    """What a simulated annotator did; `labels` = `preferred` + `ties`."""

    preferred: int
    ties: int
    skips: int

    @property
    def labels(self) -> int:
        return self.preferred + self.ties


def simulated_annotator(*, study: Study, username: str, rule: str) -> User:
    """Return the simulated account of this name, made and brought into the study where needed.

    Raises MemberRefused when the name belongs to a person or to an annotator with another rule.
    """
    rule_named(rule)
    with transaction.atomic():
        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            user, _ = create_user(username=username, simulated_rule=rule)
        if not user.is_simulated:
            raise MemberRefused(f"{user.username} is a person's account; name a simulated one, or a new one.")
        if user.simulated_rule != rule:
            raise MemberRefused(
                f"{user.username} labels by the rule “{user.simulated_rule}”, not “{rule}”; "
                "take another name."
            )
        if not Membership.objects.filter(study=study, user=user).exists():
            add_member(study=study, user=user, role=Role.ANNOTATOR, actor=None)
    return user


def label_by_rule(*, study: Study, annotator: User, limit: int | None = None) -> SimulationReport:
    """Label pair after pair by the annotator's rule until none waits or `limit` labels are made."""
    preferred = ties = skips = 0
    while limit is None or preferred + ties < limit:
        leased = lease_next_pair(study=study, annotator=annotator)
        if leased is None:
            break
        verdict = _judge(leased, study=study, annotator=annotator)
        preferred += verdict in (Verdict.A, Verdict.B)
        ties += verdict == Verdict.TIE
        skips += verdict is None
    return SimulationReport(preferred=preferred, ties=ties, skips=skips)


def _judge(leased: LeasedPair, *, study: Study, annotator: User) -> Verdict | None:
    """Label one pair and return the verdict; None when it was skipped, or frozen between lease and label."""
    rule = rule_named(annotator.simulated_rule)
    verdict = rule(leased.pair.response_a.text, leased.pair.response_b.text)
    if verdict == Verdict.TIE and not study.allow_tie:
        skip_pair(pair=leased.pair, annotator=annotator)
        return None
    try:
        record_preference(
            pair=leased.pair,
            annotator=annotator,
            verdict=verdict,
            client_id=uuid.uuid4(),
            shown_left=leased.left_side,
        )
    except LabelRefused:
        return None
    return verdict
